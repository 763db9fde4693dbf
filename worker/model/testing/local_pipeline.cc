#include "worker/model/testing/local_pipeline.h"

#include <algorithm>
#include <utility>

#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<LocalPipeline>> LocalPipeline::Create(const v1::ModelSpec& spec,
                                                                     const ParameterTable& table,
                                                                     const Options& options, Backend* backend) {
  std::unique_ptr<LocalPipeline> pipeline(new LocalPipeline(table, options));
  for (const BlockRange& blocks : options.stages) {
    MemoryPlan plan;
    Stage stage;
    PENSTOCK_ASSIGN_OR_RETURN(
        stage.model, CreateStageModel(spec, table,
                                      {.blocks = blocks,
                                       .micro_batch_size = options.micro_batch_size,
                                       .slots = options.slots,
                                       .tensor = options.tensor == nullptr ? TensorShard{} : options.tensor->shard(),
                                       .type = options.type,
                                       .dropout = options.dropout,
                                       .seed = options.seed},
                                      backend, &plan));
    PENSTOCK_ASSIGN_OR_RETURN(Arena arena, Arena::Allocate(plan, backend));
    stage.arena = std::make_unique<Arena>(std::move(arena));
    stage.model->Bind(*stage.arena, options.tensor);
    pipeline->stages_.push_back(std::move(stage));
  }
  return pipeline;
}

void LocalPipeline::SetWeights(std::span<const float> weights) {
  const auto fill = [&](const RangeList& list, std::span<std::byte> memory) {
    for (const RangeList::Placed& placed : list.placed()) {
      const size_t size = static_cast<size_t>(placed.range.size());
      const auto from = weights.subspan(static_cast<size_t>(placed.range.begin), size);
      if (options_.type == DataType::kBfloat16) {
        ToBfloat16(from, {reinterpret_cast<Bfloat16*>(memory.data()) + placed.offset, size});
      } else {
        std::copy(from.begin(), from.end(), reinterpret_cast<float*>(memory.data()) + placed.offset);
      }
    }
  };
  for (Stage& stage : stages_) {
    fill(stage.model->parameters().untied, stage.model->UntiedWeights());
    fill(stage.model->parameters().tied, stage.model->TiedWeights());
  }
}

absl::StatusOr<LossSum> LocalPipeline::ForwardAll(int slot, uint64_t first_sample, std::span<const int32_t> tokens,
                                                  std::span<const int32_t> targets, bool training) {
  std::vector<std::byte> boundary;
  LossSum loss;
  for (Stage& stage : stages_) {
    const bool first = stage.model->parameters().first;
    const bool last = stage.model->parameters().last;
    std::vector<std::byte> output(last ? 0 : static_cast<size_t>(stage.model->boundary_bytes()));
    ForwardArgs args;
    if (first) args.tokens = tokens;
    if (last) args.targets = targets;
    args.input = boundary;
    args.output = output;
    args.first_sample = first_sample;
    args.training = training;
    PENSTOCK_ASSIGN_OR_RETURN(loss, stage.model->Forward(slot, args));
    boundary = std::move(output);
  }
  return loss;
}

absl::Status LocalPipeline::BackwardAll(int slot) {
  std::vector<std::byte> boundary;
  for (size_t i = stages_.size(); i-- > 0;) {
    StageModel& model = *stages_[i].model;
    std::vector<std::byte> grad_input(model.parameters().first ? 0 : static_cast<size_t>(model.boundary_bytes()));
    PENSTOCK_RETURN_IF_ERROR(model.Backward(slot, boundary, grad_input));
    boundary = std::move(grad_input);
  }
  return absl::OkStatus();
}

absl::StatusOr<LocalPipeline::StepResult> LocalPipeline::Step(std::span<const int32_t> tokens,
                                                              std::span<const int32_t> targets) {
  for (Stage& stage : stages_) stage.model->ZeroGradients();
  const size_t size = static_cast<size_t>(stages_.front().model->tokens_per_micro_batch());
  const int micro_batches = static_cast<int>(tokens.size() / size);
  PENSTOCK_CHECK(tokens.size() % size == 0 && targets.size() == tokens.size());
  StepResult result;
  for (int i = 0; i < micro_batches + options_.slots - 1; ++i) {
    if (i < micro_batches) {
      const size_t at = static_cast<size_t>(i) * size;
      const uint64_t first_sample = options_.first_sample + static_cast<uint64_t>(i * options_.micro_batch_size);
      PENSTOCK_ASSIGN_OR_RETURN(
          const LossSum loss,
          ForwardAll(i % options_.slots, first_sample, tokens.subspan(at, size), targets.subspan(at, size), true));
      result.loss.loss += loss.loss;
      result.loss.target_count += loss.target_count;
    }
    const int done = i - (options_.slots - 1);
    if (done >= 0) PENSTOCK_RETURN_IF_ERROR(BackwardAll(done % options_.slots));
  }
  result.gradients = Gradients();
  return result;
}

absl::StatusOr<LossSum> LocalPipeline::Evaluate(std::span<const int32_t> tokens, std::span<const int32_t> targets) {
  const size_t size = static_cast<size_t>(stages_.front().model->tokens_per_micro_batch());
  LossSum sum;
  for (size_t at = 0; at < tokens.size(); at += size) {
    PENSTOCK_ASSIGN_OR_RETURN(const LossSum loss,
                              ForwardAll(0, 0, tokens.subspan(at, size), targets.subspan(at, size), false));
    sum.loss += loss.loss;
    sum.target_count += loss.target_count;
  }
  return sum;
}

std::vector<float> LocalPipeline::Gradients() const {
  std::vector<float> gradients(static_cast<size_t>(table_.size()), 0.0F);
  for (const Stage& stage : stages_) {
    const std::span<const float> from = stage.model->UntiedGradients();
    const StageParameters& parameters = stage.model->parameters();
    const RangeList answered = parameters.untied.Slice(parameters.untied_answered());
    for (const RangeList::Placed& placed : answered.placed()) {
      std::copy_n(from.begin() + placed.offset, placed.range.size(), gradients.begin() + placed.range.begin);
    }
  }
  const std::span<const float> embedding = stages_.front().model->TiedGradients(TiedUse::kEmbedding);
  const std::span<const float> head = stages_.back().model->TiedGradients(TiedUse::kHead);
  for (const RangeList::Placed& placed : stages_.front().model->parameters().tied.placed()) {
    for (int64_t i = 0; i < placed.range.size(); ++i) {
      const size_t at = static_cast<size_t>(placed.offset + i);
      gradients[static_cast<size_t>(placed.range.begin + i)] = embedding[at] + head[at];
    }
  }
  return gradients;
}

}  // namespace penstock
