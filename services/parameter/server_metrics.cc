#include "services/parameter/server_metrics.h"

#include <memory>
#include <vector>

namespace penstock {

ServerMetrics::ServerMetrics(Metrics& metrics)
    : push_bytes_(metrics.AddCounter("penstock_params_push_bytes_total", "Gradient bytes taken in.").Default()),
      pull_bytes_(metrics.AddCounter("penstock_params_pull_bytes_total", "Weight bytes sent out.").Default()),
      call_seconds_(metrics.AddHistogram("penstock_params_call_seconds",
                                         "Time of a call from its arrival to its answer, waits included.", {"method"},
                                         LatencyBuckets())),
      errors_(metrics.AddCounter("penstock_params_call_errors_total", "Calls that ended with an error.",
                                 {"method", "code"})),
      old_epoch_(
          metrics.AddCounter("penstock_params_refused_total", "Messages refused as of an old epoch or a wrong step.")
              .Default()),
      checksum_failures_(
          metrics.AddCounter("penstock_params_checksum_failures_total", "Chunks with a wrong checksum.").Default()),
      jobs_(metrics.AddGauge("penstock_params_jobs", "Jobs that are open on this shard.").Default()),
      bytes_held_(metrics.AddGauge("penstock_params_held_bytes", "Memory held for jobs.", {"class"})),
      bytes_max_(
          metrics.AddGauge("penstock_params_held_bytes_max", "Memory that jobs may hold; 0 for no limit.").Default()),
      committed_step_(metrics.AddGauge("penstock_params_committed_step", "Last committed step of a job.", {"job"})) {}

void ServerMetrics::OnCall(const std::string& method, const absl::Status& status, absl::Duration time) {
  call_seconds_.With({method}).Observe(absl::ToDoubleSeconds(time));
  if (status.ok()) return;
  errors_.With({method, std::string(absl::StatusCodeToString(status.code()))}).Increment();
  if (absl::IsFailedPrecondition(status)) old_epoch_.Increment();
  if (absl::IsDataLoss(status) && method == "Push") checksum_failures_.Increment();
}

void ServerMetrics::Update(const JobTable& jobs, const MemoryBudget& budget) {
  uint64_t state = 0;
  uint64_t gradient = 0;
  uint64_t snapshot = 0;
  const std::vector<std::shared_ptr<ShardJob>> open = jobs.Jobs();
  committed_step_.Clear();
  for (const std::shared_ptr<ShardJob>& job : open) {
    state += job->bytes().state;
    gradient += job->bytes().gradient;
    snapshot += job->bytes().snapshot;
    committed_step_.With({job->request().job_id()}).Set(static_cast<double>(job->committed_step()));
  }
  bytes_held_.With({"state"}).Set(static_cast<double>(state));
  bytes_held_.With({"gradient"}).Set(static_cast<double>(gradient));
  bytes_held_.With({"snapshot"}).Set(static_cast<double>(snapshot));
  bytes_max_.Set(static_cast<double>(budget.bytes_max()));
  jobs_.Set(static_cast<double>(open.size()));
}

}  // namespace penstock
