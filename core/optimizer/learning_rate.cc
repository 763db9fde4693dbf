#include "core/optimizer/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace penstock {

double LearningRate(const v1::OptimizerSpec& optimizer, uint64_t total_steps, uint64_t step) {
  const double peak = optimizer.learning_rate();
  const v1::LearningRateSchedule& schedule = optimizer.schedule();
  const uint64_t warmup = schedule.warmup_steps();
  if (step < warmup) return peak * (static_cast<double>(step) / static_cast<double>(warmup));
  if (schedule.type() != v1::LearningRateSchedule::TYPE_LINEAR &&
      schedule.type() != v1::LearningRateSchedule::TYPE_COSINE) {
    return peak;
  }
  // How far along the way from the end of the warm-up to the last step, 0 to 1.
  const double way = total_steps > warmup ? static_cast<double>(total_steps - warmup) : 1.0;
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / way);
  const double final_ratio = schedule.final_ratio();
  const double left = schedule.type() == v1::LearningRateSchedule::TYPE_LINEAR
                          ? 1.0 - progress
                          : 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return peak * (final_ratio + (1.0 - final_ratio) * left);
}

}  // namespace penstock
