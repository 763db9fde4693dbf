#include "worker/model/stage_parameters_memory.h"

#include <optional>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// Where the rank's shard of `parameter` begins in memory that holds `list`, in elements.
int64_t OffsetIn(const RangeList& list, const TensorShard& tensor, const Parameter& parameter) {
  const std::optional<int64_t> offset = list.OffsetOf(ShardOfParameter(parameter, tensor));
  PENSTOCK_CHECK(offset.has_value());
  return *offset;
}

}  // namespace

StageParametersMemory::StageParametersMemory(const ParameterTable& table, const StageParameters& stage,
                                             DataType weights, bool bucketed, MemoryPlan* plan)
    : stage_(stage), weights_(weights), bucketed_(bucketed) {
  const int64_t tied = stage.tied.size();
  untied_weights_region_ = plan->Add(MemoryClass::kParameter, "weights", stage.untied.size() * BytesOf(weights));
  tied_weights_region_ = plan->Add(MemoryClass::kParameter, "tied weights", tied * BytesOf(weights));
  if (bucketed_) {
    PlanBuckets(table, plan);
    return;
  }
  untied_gradients_region_ = plan->AddFloats(MemoryClass::kGradient, "gradients", stage.untied.size());
  embedding_gradients_region_ =
      plan->AddFloats(MemoryClass::kGradient, "tied gradients, embedding", stage.first ? tied : 0);
  head_gradients_region_ = plan->AddFloats(MemoryClass::kGradient, "tied gradients, head", stage.last ? tied : 0);
}

void StageParametersMemory::PlanBuckets(const ParameterTable& table, MemoryPlan* plan) {
  for (int block = stage_.blocks.begin; block < stage_.blocks.end; ++block) {
    buckets_.push_back({.gradients = {}, .untied = UntiedStretches(table, stage_, block), .tied = std::nullopt});
  }
  if (stage_.first && !stage_.tied.empty()) buckets_.front().tied = TiedUse::kEmbedding;
  head_bucket_.tied = TiedUse::kHead;
  bucket_region_ = plan->AddFloats(MemoryClass::kGradient, "gradients of a block", LargestBucket(table, stage_));
}

void StageParametersMemory::BindBuckets(std::span<float> memory) {
  const size_t tied = static_cast<size_t>(stage_.tied.size());
  for (GradientBucket& bucket : buckets_) {
    const size_t untied = static_cast<size_t>(TotalSize(bucket.untied));
    bucket.gradients = memory.first(untied + (bucket.tied.has_value() ? tied : 0));
  }
  if (stage_.first) {
    const GradientBucket& embedding = buckets_.front();
    embedding_gradients_ = embedding.gradients.last(embedding.tied.has_value() ? tied : 0);
  }
  if (!stage_.last) return;
  head_bucket_.gradients = memory.first(tied);
  head_gradients_ = head_bucket_.gradients;
}

void StageParametersMemory::Bind(const Arena& arena) {
  untied_weights_ = arena.Bytes(untied_weights_region_);
  tied_weights_ = arena.Bytes(tied_weights_region_);
  if (bucketed_) return BindBuckets(arena.Floats(bucket_region_));
  untied_gradients_ = arena.Floats(untied_gradients_region_);
  embedding_gradients_ = arena.Floats(embedding_gradients_region_);
  head_gradients_ = arena.Floats(head_gradients_region_);
}

void* StageParametersMemory::Weight(const Parameter& parameter) const {
  const RangeList& list = parameter.tied ? stage_.tied : stage_.untied;
  const std::span<std::byte> memory = parameter.tied ? tied_weights_ : untied_weights_;
  PENSTOCK_CHECK(static_cast<int64_t>(memory.size()) == list.size() * BytesOf(weights_));
  return memory.data() + OffsetIn(list, stage_.tensor, parameter) * BytesOf(weights_);
}

float* StageParametersMemory::Gradient(const Parameter& parameter) const {
  if (bucketed_) {
    const GradientBucket& bucket = BlockBucket(parameter.block);
    const std::optional<int64_t> offset = stage_.untied.OffsetOf(ShardOfParameter(parameter, stage_.tensor));
    PENSTOCK_CHECK(offset.has_value());
    int64_t begin = 0;
    for (const ElementRange& stretch : bucket.untied) {
      if (stretch.Contains(*offset)) return bucket.gradients.data() + begin + (*offset - stretch.begin);
      begin += stretch.size();
    }
    PENSTOCK_CHECK(false);
  }
  PENSTOCK_CHECK(static_cast<int64_t>(untied_gradients_.size()) == stage_.untied.size());
  return untied_gradients_.data() + OffsetIn(stage_.untied, stage_.tensor, parameter);
}

}  // namespace penstock
