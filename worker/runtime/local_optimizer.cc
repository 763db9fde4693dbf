#include "worker/runtime/local_optimizer.h"

#include "core/base/status_macros.h"

namespace penstock {

void LocalOptimizer::PlanMemory(MemoryPlan* memory) {
  const int64_t elements = TotalSize(plan_.updated());
  exp_avg_region_ = memory->AddFloats(MemoryClass::kOptimizer, "exp_avg", elements);
  exp_avg_sq_region_ = memory->AddFloats(MemoryClass::kOptimizer, "exp_avg_sq", elements);
}

void LocalOptimizer::Bind(const Arena& arena, Backend* backend) {
  backend_ = backend;
  exp_avg_ = arena.Floats(exp_avg_region_);
  exp_avg_sq_ = arena.Floats(exp_avg_sq_region_);
}

std::vector<WeightRange> LocalOptimizer::Moments() const {
  std::vector<WeightRange> moments;
  int64_t offset = 0;
  for (const ElementRange& range : plan_.updated()) {
    moments.push_back({range, exp_avg_.data() + offset, v1::STATE_KIND_EXP_AVG});
    moments.push_back({range, exp_avg_sq_.data() + offset, v1::STATE_KIND_EXP_AVG_SQ});
    offset += range.size();
  }
  return moments;
}

std::vector<GradientRange> LocalOptimizer::State(std::span<const WeightRange> weights) const {
  std::vector<GradientRange> state;
  for (const WeightRange& weight : weights) state.push_back({weight.range, weight.data, v1::STATE_KIND_WEIGHTS});
  for (const WeightRange& moment : Moments()) state.push_back({moment.range, moment.data, moment.kind});
  return state;
}

absl::Status LocalOptimizer::Update(const v1::StepDecision& decision, std::span<const GradientRange> gradients,
                                    std::span<const WeightRange> weights) {
  PENSTOCK_CHECK(gradients.size() == weights.size());
  const v1::OptimizerSpec& optimizer = plan_.spec().optimizer();
  const AdamWParams params{.learning_rate = decision.learning_rate(),
                           .beta1 = static_cast<float>(optimizer.beta1()),
                           .beta2 = static_cast<float>(optimizer.beta2()),
                           .epsilon = static_cast<float>(optimizer.epsilon()),
                           .weight_decay = 0,
                           .gradient_scale = decision.gradient_scale(),
                           .bias_correction1 = decision.bias_correction1(),
                           .bias_correction2 = decision.bias_correction2()};
  int64_t offset = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    PENSTOCK_RETURN_IF_ERROR(UpdateRange(params, gradients[i], weights[i], offset));
    offset += weights[i].range.size();
  }
  return absl::OkStatus();
}

// Parameter by parameter, because not all of them are decayed.
absl::Status LocalOptimizer::UpdateRange(const AdamWParams& params, const GradientRange& gradient,
                                         const WeightRange& weight, int64_t offset) {
  PENSTOCK_CHECK(gradient.range == weight.range);
  const ElementRange& range = weight.range;
  AdamWParams here = params;
  for (int64_t begin = range.begin; begin < range.end;) {
    const Parameter& parameter = plan_.table.parameters()[static_cast<size_t>(plan_.table.IndexOf(begin))];
    const ElementRange part = Intersect(range, parameter.range());
    here.weight_decay = parameter.decay ? static_cast<float>(plan_.spec().optimizer().weight_decay()) : 0.0f;
    const int64_t at = part.begin - range.begin;
    const size_t size = static_cast<size_t>(part.size());
    PENSTOCK_RETURN_IF_ERROR(backend_->AdamW({}, here, {gradient.data + at, size}, {weight.data + at, size},
                                             exp_avg_.subspan(static_cast<size_t>(offset + at), size),
                                             exp_avg_sq_.subspan(static_cast<size_t>(offset + at), size)));
    begin = part.end;
  }
  return absl::OkStatus();
}

}  // namespace penstock
