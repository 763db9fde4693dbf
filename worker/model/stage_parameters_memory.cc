#include "worker/model/stage_parameters_memory.h"

#include <optional>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// The first element of the rank's shard of `parameter` in `memory`, which holds `list`.
float* Find(std::span<float> memory, const RangeList& list, const TensorShard& tensor, const Parameter& parameter) {
  const std::optional<int64_t> offset = list.OffsetOf(ShardOfParameter(parameter, tensor));
  PENSTOCK_CHECK(offset.has_value());
  PENSTOCK_CHECK(static_cast<int64_t>(memory.size()) == list.size());
  return memory.data() + *offset;
}

}  // namespace

StageParametersMemory::StageParametersMemory(const StageParameters& stage, MemoryPlan* plan) : stage_(stage) {
  const int64_t tied = stage.tied.size();
  untied_weights_region_ = plan->AddFloats(MemoryClass::kParameter, "weights", stage.untied.size());
  tied_weights_region_ = plan->AddFloats(MemoryClass::kParameter, "tied weights", tied);
  untied_gradients_region_ = plan->AddFloats(MemoryClass::kGradient, "gradients", stage.untied.size());
  embedding_gradients_region_ =
      plan->AddFloats(MemoryClass::kGradient, "tied gradients, embedding", stage.first ? tied : 0);
  head_gradients_region_ = plan->AddFloats(MemoryClass::kGradient, "tied gradients, head", stage.last ? tied : 0);
}

void StageParametersMemory::Bind(const Arena& arena) {
  untied_weights_ = arena.Floats(untied_weights_region_);
  tied_weights_ = arena.Floats(tied_weights_region_);
  untied_gradients_ = arena.Floats(untied_gradients_region_);
  embedding_gradients_ = arena.Floats(embedding_gradients_region_);
  head_gradients_ = arena.Floats(head_gradients_region_);
}

float* StageParametersMemory::Weight(const Parameter& parameter) const {
  return parameter.tied ? Find(tied_weights_, stage_.tied, stage_.tensor, parameter)
                        : Find(untied_weights_, stage_.untied, stage_.tensor, parameter);
}

float* StageParametersMemory::Gradient(const Parameter& parameter) const {
  return Find(untied_gradients_, stage_.untied, stage_.tensor, parameter);
}

}  // namespace penstock
