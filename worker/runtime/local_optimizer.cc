#include "worker/runtime/local_optimizer.h"

#include "core/base/data_type.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"

namespace penstock {

LocalOptimizer::LocalOptimizer(const RankPlan& plan)
    : plan_(plan), has_master_(ComputeType(plan.spec()) != DataType::kFloat32) {}

void LocalOptimizer::PlanMemory(MemoryPlan* memory) {
  const int64_t elements = TotalSize(plan_.updated());
  if (has_master_) master_region_ = memory->AddFloats(MemoryClass::kOptimizer, "master weights", elements);
  exp_avg_region_ = memory->AddFloats(MemoryClass::kOptimizer, "exp_avg", elements);
  exp_avg_sq_region_ = memory->AddFloats(MemoryClass::kOptimizer, "exp_avg_sq", elements);
}

void LocalOptimizer::Bind(const Arena& arena, Backend* backend) {
  backend_ = backend;
  if (has_master_) master_ = arena.Floats(master_region_);
  exp_avg_ = arena.Floats(exp_avg_region_);
  exp_avg_sq_ = arena.Floats(exp_avg_sq_region_);
}

std::vector<WeightRange> LocalOptimizer::Held() const {
  std::vector<WeightRange> held;
  int64_t offset = 0;
  for (const ElementRange& range : plan_.updated()) {
    if (has_master_) held.push_back({range, master_.data() + offset, v1::STATE_KIND_WEIGHTS});
    held.push_back({range, exp_avg_.data() + offset, v1::STATE_KIND_EXP_AVG});
    held.push_back({range, exp_avg_sq_.data() + offset, v1::STATE_KIND_EXP_AVG_SQ});
    offset += range.size();
  }
  return held;
}

std::vector<GradientRange> LocalOptimizer::State(std::span<const WeightRange> weights) const {
  std::vector<GradientRange> state;
  if (!has_master_) {
    for (const WeightRange& weight : weights) state.push_back({weight.range, weight.data, v1::STATE_KIND_WEIGHTS});
  }
  for (const WeightRange& held : Held()) state.push_back({held.range, held.data, held.kind});
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
    const auto own = [&](std::span<float> state) { return state.subspan(static_cast<size_t>(offset + at), size); };
    std::span<float> weights;
    std::span<Bfloat16> rounded;
    if (has_master_) {
      weights = own(master_);
      rounded = {weight.rounded + at, size};
    } else {
      weights = {weight.data + at, size};
    }
    PENSTOCK_RETURN_IF_ERROR(
        backend_->AdamW({}, here, {gradient.data + at, size}, weights, own(exp_avg_), own(exp_avg_sq_), rounded));
    begin = part.end;
  }
  return absl::OkStatus();
}

}  // namespace penstock
