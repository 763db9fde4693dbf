// What the plan says of a running job's steps, and how they come out. A value; a part of the job's runner.
#ifndef PENSTOCK_COORDINATOR_JOBS_PLAN_TRACKER_H_
#define PENSTOCK_COORDINATOR_JOBS_PLAN_TRACKER_H_

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "core/plan/correction.h"
#include "core/plan/prediction.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

// The first steps of an epoch warm up caches and connections.
inline constexpr size_t kStepsNotCounted = 2;
// Then this many are looked at, once an epoch: their median, so that one disturbed step doesn't count.
inline constexpr size_t kStepsLearntFrom = 5;

class PlanTracker {
 public:
  // At the beginning of an epoch, with what is known of its workers.
  void Begin(std::optional<Prediction> prediction) {
    prediction_ = std::move(prediction);
    seen_ = 0;
    steps_.clear();
  }

  // Of a step; 0 where nothing is known.
  double predicted_seconds() const { return prediction_.has_value() ? prediction_->plan.step_seconds() : 0; }
  const std::optional<Prediction>& prediction() const { return prediction_; }

  // The epoch's typical step, once enough have been measured.
  std::optional<MeasuredStep> Add(const v1::StepRecord& record) {
    if (record.step_seconds() <= 0 || !prediction_.has_value() || seen_ >= kStepsNotCounted + kStepsLearntFrom) {
      return std::nullopt;
    }
    if (++seen_ > kStepsNotCounted) steps_.push_back({record.step_seconds(), record.compute_seconds()});
    if (steps_.size() < kStepsLearntFrom) return std::nullopt;
    std::sort(steps_.begin(), steps_.end(),
              [](const MeasuredStep& a, const MeasuredStep& b) { return a.step_seconds < b.step_seconds; });
    return steps_[steps_.size() / 2];
  }

 private:
  std::optional<Prediction> prediction_;
  size_t seen_ = 0;
  std::vector<MeasuredStep> steps_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_PLAN_TRACKER_H_
