// A LocalPipeline for each rank of a tensor group, on threads of this process that exchange over a fake network: what a
// tensor-parallel cluster computes, without one.
//
// Not synchronised. Borrows nothing: each rank has a backend of its own, with one thread.
#ifndef PENSTOCK_WORKER_MODEL_TESTING_TENSOR_PIPELINE_H_
#define PENSTOCK_WORKER_MODEL_TESTING_TENSOR_PIPELINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/model/testing/local_pipeline.h"
#include "worker/ops/backend.h"
#include "worker/runtime/comm_tensor_group.h"

namespace penstock {

class TensorPipeline {
 public:
  // `options` as of LocalPipeline, but for the tensor group.
  static absl::StatusOr<std::unique_ptr<TensorPipeline>> Create(const v1::ModelSpec& spec, const ParameterTable& table,
                                                                const LocalPipeline::Options& options, int degree);

  // The whole canonical space.
  void SetWeights(std::span<const float> weights);
  // The gradients of all ranks added: what two of them answered for would count twice. INTERNAL unless every rank has
  // the same loss, bit for bit.
  absl::StatusOr<LocalPipeline::StepResult> Step(std::span<const int32_t> tokens, std::span<const int32_t> targets);
  absl::StatusOr<LossSum> Evaluate(std::span<const int32_t> tokens, std::span<const int32_t> targets);

 private:
  struct Rank {
    std::unique_ptr<Communicator> comm;
    std::unique_ptr<CommTensorGroup> group;
    std::unique_ptr<Backend> backend;
    std::unique_ptr<LocalPipeline> pipeline;
  };

  TensorPipeline() = default;
  // Runs the function for every rank at once.
  absl::StatusOr<std::vector<LocalPipeline::StepResult>> RunAll(
      const std::function<absl::StatusOr<LocalPipeline::StepResult>(LocalPipeline&)>& run);

  std::vector<Rank> ranks_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_TESTING_TENSOR_PIPELINE_H_
