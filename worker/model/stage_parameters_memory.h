// A stage's weights and gradients, in canonical layout: one stretch for what only this stage uses, one for the tied
// parameter, whose gradients have a stretch for each use.
//
// Not synchronised: belongs to its stage.
#ifndef PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_
#define PENSTOCK_WORKER_MODEL_STAGE_PARAMETERS_MEMORY_H_

#include <span>

#include "core/layout/range.h"
#include "core/layout/zero_partition.h"
#include "core/model/parameter_table.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"

namespace penstock {

class StageParametersMemory {
 public:
  // Adds its regions to `plan`.
  StageParametersMemory(const StageParameters& stage, MemoryPlan* plan);

  void Bind(const Arena& arena);

  const StageParameters& stage() const { return stage_; }
  std::span<float> Weights(const ElementRange& range) const;
  std::span<float> Gradients(const ElementRange& range) const;
  std::span<float> TiedGradients(TiedUse use, const ElementRange& range) const;
  // The three gradient stretches; those that the stage doesn't have are empty.
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
