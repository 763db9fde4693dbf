// What a shard tells Prometheus. Labels are job-free and bounded; a step is a value, never a label.
//
// Thread-safe. The Metrics outlive it.
#ifndef PENSTOCK_SERVICES_PARAMETER_SERVER_METRICS_H_
#define PENSTOCK_SERVICES_PARAMETER_SERVER_METRICS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "services/parameter/job_table.h"
#include "services/telemetry/metrics.h"

namespace penstock {

class ServerMetrics {
 public:
  explicit ServerMetrics(Metrics& metrics);

  void OnPushBytes(uint64_t bytes) { push_bytes_.Increment(static_cast<double>(bytes)); }
  void OnPullBytes(uint64_t bytes) { pull_bytes_.Increment(static_cast<double>(bytes)); }
  // How a call of `method` ended, and how long it took.
  void OnCall(const std::string& method, const absl::Status& status, absl::Duration time);

  // Takes the gauges' values from the jobs that are open.
  void Update(const JobTable& jobs, const MemoryBudget& budget);

 private:
  Counter& push_bytes_;
  Counter& pull_bytes_;
  HistogramFamily& call_seconds_;
  CounterFamily& errors_;
  Counter& old_epoch_;
  Counter& checksum_failures_;
  Gauge& jobs_;
  GaugeFamily& bytes_held_;
  Gauge& bytes_max_;
  GaugeFamily& committed_step_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_SERVER_METRICS_H_
