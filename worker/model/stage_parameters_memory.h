// A stage's weights and gradients, as StageParameters lays them out: one stretch for what only this stage uses, one for
// the tied parameter, whose gradients have a stretch for each use.
//
// Not synchronised: belongs to its stage.
#ifndef PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_
#define PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_

#include <span>

#include "core/layout/zero_partition.h"
#include "core/model/parameter_table.h"
#include "worker/model/memory_plan.h"

namespace penstock {

class StageParametersMemory {
 public:
  // Adds its regions to `plan`.
  StageParametersMemory(const StageParameters& stage, MemoryPlan* plan);

  void Bind(const Arena& arena);

  const StageParameters& stage() const { return stage_; }
  // Where the rank's shard of a parameter lies; it is one that the stage holds.
  float* Weight(const Parameter& parameter) const;
  // Its gradient; of the tied parameter there is one for each use, below.
  float* Gradient(const Parameter& parameter) const;
  // Whole stretches; those that the stage doesn't have are empty.
  std::span<float> untied_weights() const { return untied_weights_; }
  std::span<float> tied_weights() const { return tied_weights_; }
  std::span<float> untied_gradients() const { return untied_gradients_; }
  std::span<float> embedding_gradients() const { return embedding_gradients_; }
  std::span<float> head_gradients() const { return head_gradients_; }

 private:
  const StageParameters stage_;
  RegionId untied_weights_region_;
  RegionId tied_weights_region_;
  RegionId untied_gradients_region_;
  RegionId embedding_gradients_region_;
  RegionId head_gradients_region_;
  // Set by Bind.
  std::span<float> untied_weights_;
  std::span<float> tied_weights_;
  std::span<float> untied_gradients_;
  std::span<float> embedding_gradients_;
  std::span<float> head_gradients_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_
