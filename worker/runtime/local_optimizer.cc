#include "worker/runtime/local_optimizer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/data_type.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"
#include "worker/runtime/range_runs.h"

namespace penstock {

LocalOptimizer::LocalOptimizer(const RankPlan& plan, int64_t run_elements_max)
    : plan_(plan),
      offloaded_(IsOffloaded(plan.spec())),
      gradients_on_host_(OffloadsGradients(plan.spec())),
      has_master_(HoldsMasterWeights(plan.spec())),
      run_elements_(std::min(TotalSize(plan.updated()), run_elements_max)) {}

LocalOptimizer::~LocalOptimizer() {
  if (offloaded_ && backend_ != nullptr) (void)backend_->Synchronize({});
}

void LocalOptimizer::PlanMemory(MemoryPlan* memory) {
  const int64_t elements = TotalSize(plan_.updated());
  if (has_master_) master_region_ = memory->AddFloats(MemoryClass::kOptimizer, "master weights", elements);
  exp_avg_region_ = memory->AddFloats(MemoryClass::kOptimizer, "exp_avg", elements);
  exp_avg_sq_region_ = memory->AddFloats(MemoryClass::kOptimizer, "exp_avg_sq", elements);
  if (!offloaded_) return;
  const DataType type = ComputeType(plan_.spec());
  const int64_t gradients = gradients_on_host_ ? 0 : run_elements_;
  const int64_t rounded = type == DataType::kFloat32 ? 0 : BytesOf(type) * run_elements_;
  for (size_t i = 0; i < runs_.size(); ++i) {
    runs_[i].gradients_region =
        memory->AddFloats(MemoryClass::kCommunication, absl::StrCat("offloaded gradients ", i), gradients);
    runs_[i].rounded_region = memory->Add(MemoryClass::kCommunication, absl::StrCat("offloaded weights ", i), rounded);
  }
}

void LocalOptimizer::Bind(const Arena& arena, Backend* backend, Backend* host) {
  PENSTOCK_CHECK(offloaded_ == (host != nullptr));
  backend_ = backend;
  host_ = host;
  if (has_master_) master_ = arena.Floats(master_region_);
  exp_avg_ = arena.Floats(exp_avg_region_);
  exp_avg_sq_ = arena.Floats(exp_avg_sq_region_);
  if (!offloaded_) return;
  for (Run& run : runs_) {
    run.buffer = arena.Floats(run.gradients_region);
    run.rounded = arena.Bytes(run.rounded_region);
  }
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
  if (offloaded_) return UpdateOnHost(params, gradients, weights);
  int64_t offset = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    PENSTOCK_RETURN_IF_ERROR(UpdateRange(backend_, params, gradients[i], weights[i], offset));
    offset += weights[i].range.size();
  }
  return absl::OkStatus();
}

// On the device's one stream the gradients of run i come before the weights of run i - 1 go, and those before the
// gradients of run i + 1. So behind the gradients' fence the memory that the host writes run i's weights to, and the
// master weights themselves, have been read, in this step and the one before.
absl::Status LocalOptimizer::UpdateOnHost(const AdamWParams& params, std::span<const GradientRange> gradients,
                                          std::span<const WeightRange> weights) {
  static_assert(kOffloadRuns == 2);
  if (weights.empty()) return absl::OkStatus();
  const auto gradient_runs = RunsOf(gradients, run_elements_ * ElementBytes(gradients[0]));
  const auto weight_runs = RunsOf(weights, run_elements_ * ElementBytes(weights[0]));
  int64_t offset = 0;
  for (size_t i = 0; i < weight_runs.size(); ++i) {
    Run& run = runs_[i % runs_.size()];
    if (i == 0) PENSTOCK_RETURN_IF_ERROR(Fetch(gradient_runs[i], &run));
    if (i + 1 < gradient_runs.size()) {
      PENSTOCK_RETURN_IF_ERROR(Fetch(gradient_runs[i + 1], &runs_[(i + 1) % runs_.size()]));
    }
    if (run.fetched != nullptr) PENSTOCK_RETURN_IF_ERROR(run.fetched->Wait());
    PENSTOCK_RETURN_IF_ERROR(UpdateRun(params, weight_runs[i], run, offset));
    for (const WeightRange& weight : weight_runs[i]) offset += weight.range.size();
  }
  return absl::OkStatus();
}

absl::Status LocalOptimizer::Fetch(std::span<const GradientRange> gradients, Run* run) {
  run->gradients.assign(gradients.begin(), gradients.end());
  float* to = run->buffer.data();
  for (GradientRange& gradient : run->gradients) {
    if (gradients_on_host_) break;
    PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, gradient.data, to, BytesOf(gradient)));
    gradient.data = to;
    to += gradient.range.size();
  }
  PENSTOCK_ASSIGN_OR_RETURN(run->fetched, backend_->RecordFence({}));
  return absl::OkStatus();
}

absl::Status LocalOptimizer::UpdateRun(const AdamWParams& params, std::span<const WeightRange> weights, const Run& run,
                                       int64_t offset) {
  auto* rounded = reinterpret_cast<Bfloat16*>(run.rounded.data());
  for (size_t i = 0; i < weights.size(); ++i) {
    const WeightRange& weight = weights[i];
    WeightRange here{.range = weight.range};
    const void* updated = master_.data() + offset;
    if (weight.rounded != nullptr) {
      here.rounded = rounded;
      updated = rounded;
      rounded += weight.range.size();
    }
    PENSTOCK_RETURN_IF_ERROR(UpdateRange(host_, params, run.gradients[i], here, offset));
    PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, updated, AddressOf(weight), BytesOf(weight)));
    offset += weight.range.size();
  }
  return absl::OkStatus();
}

// Not all parameters are decayed: neighbours that are decayed alike are updated together, a launch on a device.
absl::Status LocalOptimizer::UpdateRange(Backend* backend, const AdamWParams& params, const GradientRange& gradient,
                                         const WeightRange& weight, int64_t offset) {
  PENSTOCK_CHECK(gradient.range == weight.range);
  const ElementRange& range = weight.range;
  AdamWParams here = params;
  for (int64_t begin = range.begin; begin < range.end;) {
    const auto parameter_at = [&](int64_t element) -> const Parameter& {
      return plan_.table.parameters()[static_cast<size_t>(plan_.table.IndexOf(element))];
    };
    const bool decay = parameter_at(begin).decay;
    int64_t end = parameter_at(begin).range().end;
    while (end < range.end && parameter_at(end).decay == decay) end = parameter_at(end).range().end;
    const ElementRange part = {begin, std::min(end, range.end)};
    here.weight_decay = decay ? static_cast<float>(plan_.spec().optimizer().weight_decay()) : 0.0f;
    const int64_t at = part.begin - range.begin;
    const size_t size = static_cast<size_t>(part.size());
    const auto own = [&](std::span<float> state) { return state.subspan(static_cast<size_t>(offset + at), size); };
    std::span<float> weights;
    std::span<Bfloat16> rounded;
    if (has_master_) {
      weights = own(master_);
      if (weight.rounded != nullptr) rounded = {weight.rounded + at, size};
    } else {
      weights = {weight.data + at, size};
    }
    PENSTOCK_RETURN_IF_ERROR(
        backend->AdamW({}, here, {gradient.data + at, size}, weights, own(exp_avg_), own(exp_avg_sq_), rounded));
    begin = part.end;
  }
  return absl::OkStatus();
}

}  // namespace penstock
