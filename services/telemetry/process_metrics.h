// What Prometheus expects of every process: process_cpu_seconds_total, process_resident_memory_bytes, process_open_fds,
// process_max_fds, process_threads and process_start_time_seconds, read from /proc when they are asked for.
// Thread-safe.
#ifndef PENSTOCK_SERVICES_TELEMETRY_PROCESS_METRICS_H_
#define PENSTOCK_SERVICES_TELEMETRY_PROCESS_METRICS_H_

#include <vector>

#include <prometheus/metric_family.h>

namespace penstock {

// What can't be read is left out.
std::vector<prometheus::MetricFamily> CollectProcessMetrics();

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_TELEMETRY_PROCESS_METRICS_H_
