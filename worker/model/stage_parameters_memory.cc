#include "worker/model/stage_parameters_memory.h"

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// The part of `memory`, which holds `whole`, that holds `range`.
std::span<float> Part(std::span<float> memory, const ElementRange& whole, const ElementRange& range) {
  if (range.empty()) return {};
  PENSTOCK_CHECK(whole.Contains(range));
  PENSTOCK_CHECK(static_cast<int64_t>(memory.size()) == whole.size());
  return memory.subspan(static_cast<size_t>(range.begin - whole.begin), static_cast<size_t>(range.size()));
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

std::span<float> StageParametersMemory::Weights(const ElementRange& range) const {
  if (!stage_.tied.empty() && stage_.tied.Contains(range)) return Part(tied_weights_, stage_.tied, range);
  return Part(untied_weights_, stage_.untied, range);
}

std::span<float> StageParametersMemory::Gradients(const ElementRange& range) const {
  return Part(untied_gradients_, stage_.untied, range);
}

std::span<float> StageParametersMemory::TiedGradients(TiedUse use, const ElementRange& range) const {
  return Part(use == TiedUse::kEmbedding ? embedding_gradients_ : head_gradients_, stage_.tied, range);
}

}  // namespace penstock
