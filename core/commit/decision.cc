#include "core/commit/decision.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/optimizer/learning_rate.h"

namespace penstock {
namespace {

// As in the usual implementations of clipping by global norm: keeps the quotient finite at norm 0.
constexpr double kClipEpsilon = 1e-6;

absl::Status CheckInputs(uint64_t step, const v1::StepInputs& inputs) {
  if (step == 0) return absl::InvalidArgumentError("step 0 can't be committed: it is the initial state");
  if (inputs.target_count() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("step ", step, ": target_count is 0; a step has at least one target"));
  }
  if (!std::isfinite(inputs.loss_sum())) {
    return absl::FailedPreconditionError(absl::StrCat("step ", step, ": loss is not finite"));
  }
  return absl::OkStatus();
}

absl::Status CheckAgreement(const std::vector<v1::PreparedStep>& prepared) {
  if (prepared.empty()) return absl::InvalidArgumentError("no shard has prepared the step");
  for (size_t shard = 1; shard < prepared.size(); ++shard) {
    if (prepared[shard].step() != prepared[0].step()) {
      return absl::InvalidArgumentError(absl::StrCat("shard ", shard, " prepared step ", prepared[shard].step(),
                                                     ", shard 0 step ", prepared[0].step()));
    }
    if (!SameInputs(prepared[shard].inputs(), prepared[0].inputs())) {
      return absl::InvalidArgumentError(
          absl::StrCat("step ", prepared[0].step(), ": shard ", shard, " prepared it with other inputs than shard 0"));
    }
  }
  return absl::OkStatus();
}

// In double, from the exact beta: 1 - beta^step loses digits in float at small steps.
float BiasCorrection(double beta, uint64_t step) {
  return static_cast<float>(1.0 / (1.0 - std::pow(beta, static_cast<double>(step))));
}

}  // namespace

bool SameInputs(const v1::StepInputs& a, const v1::StepInputs& b) {
  // The messages hold no maps and no unknown fields, so equal bytes and equal values are the same thing.
  return a.SerializeAsString() == b.SerializeAsString();
}

bool SameDecision(const v1::StepDecision& a, const v1::StepDecision& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

absl::StatusOr<v1::StepDecision> Decide(const v1::OptimizerSpec& optimizer, uint64_t total_steps,
                                        const std::vector<v1::PreparedStep>& prepared) {
  PENSTOCK_RETURN_IF_ERROR(CheckAgreement(prepared));
  const uint64_t step = prepared[0].step();
  const v1::StepInputs& inputs = prepared[0].inputs();
  PENSTOCK_RETURN_IF_ERROR(CheckInputs(step, inputs));

  // One running sum over all pieces: the order of additions, and so the result, doesn't depend on the number of shards.
  double square_sum = 0;
  for (const v1::PreparedStep& shard : prepared) {
    for (const double piece : shard.piece_square_sums()) square_sum += piece;
  }
  const double targets = static_cast<double>(inputs.target_count());
  const double norm = std::sqrt(square_sum) / targets;
  if (!std::isfinite(norm)) {
    return absl::FailedPreconditionError(absl::StrCat("step ", step, ": gradient norm is not finite"));
  }
  double clip = 1.0;
  if (optimizer.grad_clip() > 0) clip = std::min(1.0, optimizer.grad_clip() / (norm + kClipEpsilon));

  v1::StepDecision decision;
  decision.set_step(step);
  *decision.mutable_inputs() = inputs;
  decision.set_gradient_norm(norm);
  decision.set_learning_rate(static_cast<float>(LearningRate(optimizer, total_steps, step)));
  decision.set_gradient_scale(static_cast<float>(clip / targets));
  decision.set_bias_correction1(BiasCorrection(optimizer.beta1(), step));
  decision.set_bias_correction2(BiasCorrection(optimizer.beta2(), step));
  return decision;
}

v1::StepRecord MakeRecord(const v1::StepDecision& decision, uint64_t epoch) {
  v1::StepRecord record;
  record.set_step(decision.step());
  record.set_loss(decision.inputs().loss_sum() / static_cast<double>(decision.inputs().target_count()));
  record.set_gradient_norm(decision.gradient_norm());
  record.set_learning_rate(decision.learning_rate());
  record.set_tokens(decision.inputs().target_count());
  *record.mutable_samples() = decision.inputs().samples();
  record.set_epoch(epoch);
  return record;
}

}  // namespace penstock
