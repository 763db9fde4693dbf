#include "worker/model/testing/tensor_pipeline.h"

#include <thread>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/comm/fake/communicator.h"
#include "worker/ops/cpu/cpu_backend.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<TensorPipeline>> TensorPipeline::Create(const v1::ModelSpec& spec,
                                                                       const ParameterTable& table,
                                                                       const LocalPipeline::Options& options,
                                                                       int degree) {
  const auto network = std::make_shared<FakeNetwork>(degree);
  std::vector<int> members;
  for (int i = 0; i < degree; ++i) members.push_back(i);
  std::unique_ptr<TensorPipeline> all(new TensorPipeline());
  for (int i = 0; i < degree; ++i) {
    Rank rank;
    rank.comm = network->Join(i, {.wait_timeout = absl::Seconds(60)});
    rank.group = std::make_unique<CommTensorGroup>(members, i);
    rank.group->Bind(rank.comm.get(), nullptr);
    PENSTOCK_ASSIGN_OR_RETURN(rank.backend, CreateCpuBackend({.threads = 1}));
    LocalPipeline::Options mine = options;
    mine.tensor = rank.group.get();
    PENSTOCK_ASSIGN_OR_RETURN(rank.pipeline, LocalPipeline::Create(spec, table, mine, rank.backend.get()));
    all->ranks_.push_back(std::move(rank));
  }
  return all;
}

void TensorPipeline::SetWeights(std::span<const float> weights) {
  for (Rank& rank : ranks_) rank.pipeline->SetWeights(weights);
}

absl::StatusOr<std::vector<LocalPipeline::StepResult>> TensorPipeline::RunAll(
    const std::function<absl::StatusOr<LocalPipeline::StepResult>(LocalPipeline&)>& run) {
  std::vector<absl::StatusOr<LocalPipeline::StepResult>> results(ranks_.size(), absl::UnknownError("did not run"));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    threads.emplace_back([&, i] {
      results[i] = run(*ranks_[i].pipeline);
      // The others would wait for it in vain.
      if (!results[i].ok()) ranks_[i].comm->Abort(results[i].status());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<LocalPipeline::StepResult> all;
  for (absl::StatusOr<LocalPipeline::StepResult>& result : results) {
    PENSTOCK_RETURN_IF_ERROR(result.status());
    all.push_back(*std::move(result));
    if (all.back().loss.loss != all.front().loss.loss ||
        all.back().loss.target_count != all.front().loss.target_count) {
      return absl::InternalError("two tensor ranks have different losses");
    }
  }
  return all;
}

absl::StatusOr<LocalPipeline::StepResult> TensorPipeline::Step(std::span<const int32_t> tokens,
                                                               std::span<const int32_t> targets) {
  PENSTOCK_ASSIGN_OR_RETURN(std::vector<LocalPipeline::StepResult> results,
                            RunAll([&](LocalPipeline& pipeline) { return pipeline.Step(tokens, targets); }));
  LocalPipeline::StepResult sum = std::move(results.front());
  for (size_t rank = 1; rank < results.size(); ++rank) {
    for (size_t i = 0; i < sum.gradients.size(); ++i) sum.gradients[i] += results[rank].gradients[i];
  }
  return sum;
}

absl::StatusOr<LossSum> TensorPipeline::Evaluate(std::span<const int32_t> tokens, std::span<const int32_t> targets) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<LocalPipeline::StepResult> results,
                            RunAll([&](LocalPipeline& pipeline) -> absl::StatusOr<LocalPipeline::StepResult> {
                              LocalPipeline::StepResult result;
                              PENSTOCK_ASSIGN_OR_RETURN(result.loss, pipeline.Evaluate(tokens, targets));
                              return result;
                            }));
  return results.front().loss;
}

}  // namespace penstock
