#include "absl/strings/str_cat.h"
#include "core/plan/job_checker.h"
#include "core/plan/job_limits.h"

namespace penstock {
namespace {

void CheckSchedule(const v1::LearningRateSchedule& schedule, Violations* violations) {
  switch (schedule.type()) {
    case v1::LearningRateSchedule::TYPE_LINEAR:
    case v1::LearningRateSchedule::TYPE_COSINE:
      violations->CheckNumber("optimizer.schedule.final_ratio", schedule.final_ratio(), {.low = 0, .high = 1});
      return;
    case v1::LearningRateSchedule::TYPE_CONSTANT:
      // Said nothing about, or said rightly; anything else would be ignored, and the user should know.
      if (schedule.final_ratio() != 1) {
        violations->Add("optimizer.schedule.final_ratio",
                        absl::StrCat("is ", schedule.final_ratio(),
                                     ", but a constant rate doesn't fall; leave it out, or use linear or cosine"));
      }
      return;
    default:
      violations->Add("optimizer.schedule.type",
                      absl::StrCat("has the unknown value ", static_cast<int>(schedule.type()),
                                   "; this version knows: constant, linear, cosine"));
  }
}

}  // namespace

void CheckTraining(const v1::TrainingSpec& training, Violations* violations) {
  violations->CheckRequired("training.steps", training.steps(), kStepsMax);
  violations->CheckRequired("training.global_batch_size", training.global_batch_size(), kGlobalBatchMax);
  violations->CheckRequired("training.micro_batch_size", training.micro_batch_size(), kMicroBatchMax,
                            ", or with parallel.plan: auto it is chosen");
  if (training.precision() != v1::TrainingSpec::PRECISION_FP32 &&
      training.precision() != v1::TrainingSpec::PRECISION_BF16) {
    violations->Add("training.precision", absl::StrCat("has the unknown value ", static_cast<int>(training.precision()),
                                                       "; this version knows: fp32, bf16"));
  }
  if (training.determinism() != v1::TrainingSpec::DETERMINISM_STRICT &&
      training.determinism() != v1::TrainingSpec::DETERMINISM_FAST) {
    violations->Add("training.determinism",
                    absl::StrCat("has the unknown value ", static_cast<int>(training.determinism()),
                                 "; this version knows: strict, fast"));
  }
  violations->CheckNumber("training.dropout", training.dropout(), {.low = 0, .high = 1, .high_open = true});
  violations->CheckInteger("training.validate_every_steps", training.validate_every_steps(), 0, kStepsMax);
  violations->CheckInteger("training.digest_every_steps", training.digest_every_steps(), 0, kStepsMax);
  // Never evaluated: the number doesn't matter.
  const uint32_t samples_min = training.validate_every_steps() > 0 ? 1 : 0;
  violations->CheckInteger("training.validation_samples", training.validation_samples(), samples_min, kGlobalBatchMax);
}

void CheckOptimizer(const v1::OptimizerSpec& optimizer, Violations* violations) {
  if (optimizer.type() != v1::OptimizerSpec::TYPE_ADAMW) {
    violations->Add("optimizer.type", absl::StrCat("has the unknown value ", static_cast<int>(optimizer.type()),
                                                   "; this version knows: adamw"));
  }
  const bool rate_ok =
      violations->CheckNumber("optimizer.learning_rate", optimizer.learning_rate(), {.low = 0, .high = 1000});
  // As a float it must stay below 1, or the bias correction divides by 0.
  constexpr Interval kBeta{.low = 0, .high = 0.999999};
  violations->CheckNumber("optimizer.beta1", optimizer.beta1(), kBeta);
  violations->CheckNumber("optimizer.beta2", optimizer.beta2(), kBeta);
  // As a float it must stay above 0, or a gradient that is always 0 divides 0 by 0.
  violations->CheckNumber("optimizer.epsilon", optimizer.epsilon(), {.low = 1e-30, .high = 1});
  const bool decay_ok =
      violations->CheckNumber("optimizer.weight_decay", optimizer.weight_decay(), {.low = 0, .high = 1000});
  if (rate_ok && decay_ok && optimizer.learning_rate() * optimizer.weight_decay() >= 1) {
    violations->Add(
        "optimizer.weight_decay",
        absl::StrCat("is ", optimizer.weight_decay(), ", and times learning_rate ", optimizer.learning_rate(),
                     " that takes all of a weight in one step; the product must be below 1"));
  }
  violations->CheckNumber("optimizer.grad_clip", optimizer.grad_clip(), {.low = 0, .high = 1e30});
  CheckSchedule(optimizer.schedule(), violations);
}

}  // namespace penstock
