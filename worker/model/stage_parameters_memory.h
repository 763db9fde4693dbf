// A stage's weights (of the type that it computes in) and gradients (fp32), as StageParameters lays them out: one
// stretch for what only this stage uses, one for the tied parameter, whose gradients have a stretch for each use.
//
// Not synchronised: belongs to its stage.
#ifndef PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_
#define PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/data_type.h"
#include "core/layout/zero_partition.h"
#include "core/model/parameter_table.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"

namespace penstock {

class StageParametersMemory {
 public:
  // Adds its regions to `plan`. `bucketed`: instead of all gradients, room for those of the largest block.
  StageParametersMemory(const ParameterTable& table, const StageParameters& stage, DataType weights, bool bucketed,
                        MemoryPlan* plan);

  void Bind(const Arena& arena);

  const StageParameters& stage() const { return stage_; }
  // Where the rank's shard of a parameter lies; it is one that the stage holds.
  void* Weight(const Parameter& parameter) const;
  // Its gradient; of the tied parameter there is one for each use, below.
  float* Gradient(const Parameter& parameter) const;
  // With buckets: those of a block (the embedding's includes the tied parameter), and of the head's use of the tied
  // parameter, which another pass adds up. All of them are in the same memory.
  const GradientBucket& BlockBucket(int block) const {
    return buckets_[static_cast<size_t>(block - stage_.blocks.begin)];
  }
  const GradientBucket& HeadBucket() const { return head_bucket_; }

  // Whole stretches; those that the stage doesn't have are empty.
  std::span<std::byte> untied_weights() const { return untied_weights_; }
  std::span<std::byte> tied_weights() const { return tied_weights_; }
  std::span<float> untied_gradients() const { return untied_gradients_; }
  std::span<float> embedding_gradients() const { return embedding_gradients_; }
  std::span<float> head_gradients() const { return head_gradients_; }

 private:
  void PlanBuckets(const ParameterTable& table, MemoryPlan* plan);
  void BindBuckets(std::span<float> memory);

  const StageParameters stage_;
  const DataType weights_;
  const bool bucketed_;
  RegionId bucket_region_;
  RegionId untied_weights_region_;
  RegionId tied_weights_region_;
  RegionId untied_gradients_region_;
  RegionId embedding_gradients_region_;
  RegionId head_gradients_region_;
  // Set by Bind.
  std::span<std::byte> untied_weights_;
  std::span<std::byte> tied_weights_;
  std::span<float> untied_gradients_;
  std::span<float> embedding_gradients_;
  std::span<float> head_gradients_;
  // By block of the stage; and that of the head's use of the tied parameter. Their memory is set by Bind.
  std::vector<GradientBucket> buckets_;
  GradientBucket head_bucket_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_
