// The coordinator's metrics: jobs, their progress, members. Labels name a job, a state or a role, never a step, a loss
// or a text. Thread-safe; updated by the scheduler's thread.
#ifndef PENSTOCK_COORDINATOR_SERVER_COORDINATOR_METRICS_H_
#define PENSTOCK_COORDINATOR_SERVER_COORDINATOR_METRICS_H_

#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "services/telemetry/metrics.h"

namespace penstock {

// Ended jobs whose series are still exported.
inline constexpr size_t kEndedJobSeriesMax = 32;

class CoordinatorMetrics {
 public:
  // The registry outlives this.
  explicit CoordinatorMetrics(Metrics* metrics);

  void UpdateJob(const v1::JobStatus& status);
  void AddStep(const v1::JobStatus& status, const v1::StepRecord& record, absl::Time now);
  void ForgetJob(const std::string& id);
  void UpdateMembers(const std::vector<v1::MemberStatus>& members);

 private:
  struct Seen {
    std::string name;
    v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
    uint32_t recoveries = 0;
  };
  void RemoveSeries(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountStates() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  GaugeFamily& jobs_;
  GaugeFamily& step_;
  GaugeFamily& steps_;
  GaugeFamily& loss_;
  GaugeFamily& validation_loss_;
  GaugeFamily& tokens_per_second_;
  GaugeFamily& last_step_time_;
  GaugeFamily& samples_repeated_;
  GaugeFamily& samples_skipped_;
  CounterFamily& tokens_;
  CounterFamily& recoveries_;
  HistogramFamily& step_seconds_;
  GaugeFamily& predicted_step_seconds_;
  GaugeFamily& measured_step_seconds_;
  GaugeFamily& plan_ratio_;
  GaugeFamily& members_;

  std::mutex mutex_;
  std::map<std::string, Seen> seen_ ABSL_GUARDED_BY(mutex_);
  // Names of ended jobs, oldest first.
  std::deque<std::string> ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_COORDINATOR_METRICS_H_
