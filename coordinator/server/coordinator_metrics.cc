#include "coordinator/server/coordinator_metrics.h"

#include <algorithm>

#include "coordinator/server/status_board.h"
#include "core/commit/job_state.h"

namespace penstock {
namespace {

// "RUNNING".
std::string StateName(v1::JobState state) { return v1::JobState_Name(state).substr(sizeof("JOB_STATE_") - 1); }

}  // namespace

CoordinatorMetrics::CoordinatorMetrics(Metrics* metrics)
    : jobs_(metrics->AddGauge("penstock_jobs", "Jobs by state.", {"state"})),
      step_(metrics->AddGauge("penstock_job_step", "Last committed step.", {"job"})),
      steps_(metrics->AddGauge("penstock_job_steps", "Steps that the job asks for.", {"job"})),
      loss_(metrics->AddGauge("penstock_job_loss", "Mean training loss of the last step, in nats.", {"job"})),
      validation_loss_(metrics->AddGauge("penstock_job_validation_loss", "Last validation loss, in nats.", {"job"})),
      tokens_per_second_(metrics->AddGauge("penstock_job_tokens_per_second", "Speed over the last steps.", {"job"})),
      last_step_time_(metrics->AddGauge("penstock_job_last_step_timestamp_seconds",
                                        "When a step was last reported: time() minus it tells a stuck job.", {"job"})),
      samples_repeated_(
          metrics->AddGauge("penstock_job_samples_repeated", "Samples consumed more than once.", {"job"})),
      samples_skipped_(metrics->AddGauge("penstock_job_samples_skipped", "Samples left out.", {"job"})),
      tokens_(metrics->AddCounter("penstock_job_tokens_total", "Tokens trained on, as reported.", {"job"})),
      recoveries_(metrics->AddCounter("penstock_job_recoveries_total", "Recoveries begun.", {"job"})),
      step_seconds_(metrics->AddHistogram("penstock_job_step_seconds", "Time of a step.", {"job"}, LatencyBuckets())),
      predicted_step_seconds_(metrics->AddGauge("penstock_plan_predicted_step_seconds",
                                                "What the plan says of a step; 0 where nothing is known.", {"job"})),
      measured_step_seconds_(
          metrics->AddGauge("penstock_plan_measured_step_seconds", "Mean of the last steps.", {"job"})),
      plan_ratio_(metrics->AddGauge("penstock_plan_ratio",
                                    "Measured over predicted step time; 0 where nothing is known.", {"job"})),
      members_(metrics->AddGauge("penstock_members", "Workers and shards by state.", {"role", "state"})) {
  std::lock_guard lock(mutex_);
  CountStates();
}

// Every state has its series, at 0 too: so that an alert finds it.
void CoordinatorMetrics::CountStates() {
  std::map<v1::JobState, int> counts;
  for (const auto& [id, seen] : seen_) ++counts[seen.state];
  for (int state = v1::JobState_MIN + 1; state <= v1::JobState_MAX; ++state) {
    const auto job_state = static_cast<v1::JobState>(state);
    jobs_.With({StateName(job_state)}).Set(counts[job_state]);
  }
}

void CoordinatorMetrics::UpdateJob(const v1::JobStatus& status) {
  std::lock_guard lock(mutex_);
  const auto [found, is_new] = seen_.try_emplace(status.id());
  Seen& seen = found->second;
  const v1::JobState before = seen.state;
  seen.name = status.name();
  seen.state = status.state();
  if (before != status.state()) CountStates();
  const bool ended = IsEnded(status.state());
  // A job that had ended when this process began has nothing to follow.
  if (is_new && ended) return;
  if (is_new) std::erase(ended_, status.name());

  step_.With({status.name()}).Set(static_cast<double>(status.step()));
  steps_.With({status.name()}).Set(static_cast<double>(status.steps()));
  if (status.has_loss()) loss_.With({status.name()}).Set(status.loss());
  if (status.has_validation_loss()) validation_loss_.With({status.name()}).Set(status.validation_loss());
  tokens_per_second_.With({status.name()}).Set(ended ? 0 : status.tokens_per_second());
  predicted_step_seconds_.With({status.name()}).Set(status.predicted_step_seconds());
  measured_step_seconds_.With({status.name()}).Set(status.step_seconds());
  plan_ratio_.With({status.name()})
      .Set(status.predicted_step_seconds() > 0 ? status.step_seconds() / status.predicted_step_seconds() : 0);
  samples_repeated_.With({status.name()}).Set(static_cast<double>(status.samples_repeated()));
  samples_skipped_.With({status.name()}).Set(static_cast<double>(status.samples_skipped()));
  Counter& recoveries = recoveries_.With({status.name()});
  if (status.recoveries() > seen.recoveries) recoveries.Increment(status.recoveries() - seen.recoveries);
  seen.recoveries = status.recoveries();
  if (!ended || IsEnded(before)) return;
  std::erase(ended_, status.name());
  ended_.push_back(status.name());
  if (ended_.size() > kEndedJobSeriesMax) {
    RemoveSeries(ended_.front());
    ended_.pop_front();
  }
}

void CoordinatorMetrics::AddStep(const v1::JobStatus& status, const v1::StepRecord& record, absl::Time now) {
  tokens_.With({status.name()}).Increment(static_cast<double>(record.tokens()));
  last_step_time_.With({status.name()}).Set(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
  if (record.step_seconds() > 0) step_seconds_.With({status.name()}).Observe(record.step_seconds());
}

void CoordinatorMetrics::RemoveSeries(const std::string& name) {
  for (GaugeFamily* family :
       {&step_, &steps_, &loss_, &validation_loss_, &tokens_per_second_, &last_step_time_, &samples_repeated_,
        &samples_skipped_, &predicted_step_seconds_, &measured_step_seconds_, &plan_ratio_}) {
    family->Remove({name});
  }
  tokens_.Remove({name});
  recoveries_.Remove({name});
  step_seconds_.Remove({name});
}

void CoordinatorMetrics::ForgetJob(const std::string& id) {
  std::lock_guard lock(mutex_);
  seen_.erase(id);
  CountStates();
}

void CoordinatorMetrics::UpdateMembers(const std::vector<v1::MemberStatus>& members) {
  std::map<std::pair<std::string, std::string>, int> counts;
  for (const char* role : {"worker", "shard"}) {
    for (const char* state : {"IDLE", "BUSY", "LOST"}) counts[{role, state}] = 0;
  }
  for (const v1::MemberStatus& member : members) {
    ++counts[{member.info().role() == v1::MEMBER_ROLE_WORKER ? "worker" : "shard", member.state()}];
  }
  for (const auto& [labels, count] : counts) members_.With({labels.first, labels.second}).Set(count);
}

}  // namespace penstock
