// All stages of a model in one process and one thread, for tests: what a cluster computes, without one.
//
// Not synchronised. Borrows the backend.
#ifndef PENSTOCK_WORKER_MODEL_TESTING_LOCAL_PIPELINE_H_
#define PENSTOCK_WORKER_MODEL_TESTING_LOCAL_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/data_type.h"
#include "core/layout/zero_partition.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"

namespace penstock {

class LocalPipeline {
 public:
  struct Options {
    std::vector<BlockRange> stages;
    int64_t micro_batch_size = 1;
    // Micro-batches in flight: 1 runs each one's backward pass at once, m is GPipe.
    int slots = 1;
    // The pipeline of one rank of this group, whose others run on threads of their own; null for a whole one.
    TensorGroup* tensor = nullptr;
    DataType type = DataType::kFloat32;
    // Of every step's first sample, where something is dropped.
    uint64_t first_sample = 0;
    double dropout = 0;
    uint64_t seed = 0;
  };
  struct StepResult {
    LossSum loss;
    // Of the loss sum, over the whole canonical space; tied parts added, the embedding's first. Zeros for what another
    // tensor rank answers for.
    std::vector<float> gradients;
    friend bool operator==(const StepResult& a, const StepResult& b) {
      return a.loss.loss == b.loss.loss && a.loss.target_count == b.loss.target_count && a.gradients == b.gradients;
    }
  };

  static absl::StatusOr<std::unique_ptr<LocalPipeline>> Create(const v1::ModelSpec& spec, const ParameterTable& table,
                                                               const Options& options, Backend* backend);

  // The whole canonical space; rounded to the stages' type.
  void SetWeights(std::span<const float> weights);
  // tokens, targets (samples, T), a multiple of the micro-batch.
  absl::StatusOr<StepResult> Step(std::span<const int32_t> tokens, std::span<const int32_t> targets);
  absl::StatusOr<LossSum> Evaluate(std::span<const int32_t> tokens, std::span<const int32_t> targets);

 private:
  struct Stage {
    std::unique_ptr<Arena> arena;
    std::unique_ptr<StageModel> model;
  };

  LocalPipeline(const ParameterTable& table, const Options& options) : table_(table), options_(options) {}
  absl::StatusOr<LossSum> ForwardAll(int slot, uint64_t first_sample, std::span<const int32_t> tokens,
                                     std::span<const int32_t> targets, bool training);
  absl::Status BackwardAll(int slot);
  std::vector<float> Gradients() const;

  const ParameterTable table_;
  const Options options_;
  std::vector<Stage> stages_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_TESTING_LOCAL_PIPELINE_H_
