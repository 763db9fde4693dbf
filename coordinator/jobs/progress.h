// How fast a job gets on, from its last measured steps, and when it last did. A value; a part of the job's runner.
#ifndef PENSTOCK_COORDINATOR_JOBS_PROGRESS_H_
#define PENSTOCK_COORDINATOR_JOBS_PROGRESS_H_

#include <algorithm>
#include <cstdint>
#include <deque>

#include "absl/time/time.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

// Steps that the speed is an average of.
inline constexpr size_t kProgressStepsMax = 16;
// A job that commits nothing for so long, and for kStallStepsMin of its steps, has stalled.
inline constexpr absl::Duration kStallTimeMin = absl::Seconds(10);
inline constexpr double kStallStepsMin = 10;

class Progress {
 public:
  void Add(const v1::StepRecord& record) {
    if (record.step_seconds() <= 0) return;
    steps_.push_back({record.step_seconds(), record.tokens()});
    if (steps_.size() > kProgressStepsMax) steps_.pop_front();
  }
  // After a recovery: what comes is measured anew.
  void Clear() { steps_.clear(); }

  // Mean time of a step; 0 when none was measured.
  double step_seconds() const { return steps_.empty() ? 0 : Seconds() / static_cast<double>(steps_.size()); }
  double tokens_per_second() const {
    double tokens = 0;
    for (const Step& step : steps_) tokens += static_cast<double>(step.tokens);
    return steps_.empty() ? 0 : tokens / Seconds();
  }
  absl::Duration stall_time() const { return std::max(kStallTimeMin, absl::Seconds(kStallStepsMin * step_seconds())); }

 private:
  struct Step {
    double seconds = 0;
    uint64_t tokens = 0;
  };
  double Seconds() const {
    double seconds = 0;
    for (const Step& step : steps_) seconds += step.seconds;
    return seconds;
  }

  std::deque<Step> steps_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_PROGRESS_H_
