// What is shown of a job, and what is said when it doesn't get on.
#include <utility>

#include "coordinator/jobs/job_runner.h"
#include "services/base/log.h"

namespace penstock {
namespace {

constexpr absl::Duration kStallCheckInterval = absl::Seconds(1);
// How often what is shown is saved while nothing else is written of the job.
constexpr absl::Duration kSaveInterval = absl::Seconds(2);

void SetTimestamp(absl::Time time, google::protobuf::Timestamp* out) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  out->set_seconds(seconds);
  out->set_nanos(static_cast<int32_t>((time - absl::FromUnixSeconds(seconds)) / absl::Nanoseconds(1)));
}

}  // namespace

v1::JobStatus JobRunner::Status() const {
  v1::JobStatus status;
  status.set_id(job_.id);
  status.set_name(job_.spec.name());
  status.set_state(machine_.state());
  status.set_step(machine_.committed_step());
  status.set_steps(job_.spec.training().steps());
  if (loss_.has_value()) status.set_loss(*loss_);
  if (validation_loss_.has_value()) status.set_validation_loss(*validation_loss_);
  status.set_tokens_per_second(progress_.tokens_per_second());
  status.set_step_seconds(progress_.step_seconds());
  status.set_epoch(machine_.epoch());
  status.set_recoveries(machine_.recoveries());
  const Ledger::Counts counts = ledger_.counts();
  status.set_samples_consumed(counts.consumed);
  status.set_samples_repeated(counts.repeated);
  status.set_samples_skipped(counts.skipped);
  status.mutable_mesh()->set_pipeline(static_cast<uint32_t>(mesh_.pipeline()));
  status.mutable_mesh()->set_data(static_cast<uint32_t>(mesh_.data()));
  status.mutable_mesh()->set_tensor(static_cast<uint32_t>(mesh_.tensor()));
  status.set_digest(digest_);
  status.set_digest_step(digest_step_);
  status.set_message(machine_.message().empty() ? stall_ : machine_.message());
  SetTimestamp(job_.submitted_at, status.mutable_submitted_at());
  if (ended_at_.has_value()) SetTimestamp(*ended_at_, status.mutable_ended_at());
  *status.mutable_spec() = job_.spec;
  status.set_last_checkpoint(last_checkpoint_);
  status.set_predicted_step_seconds(plan_.predicted_seconds());
  return status;
}

void JobRunner::Publish() {
  if (blocked_) return;
  if (machine_.committed_step() != progress_step_ || !MayStall()) {
    progress_step_ = machine_.committed_step();
    progress_at_ = Now();
    stall_.clear();
  }
  environment_->cluster->Show(Status());
  SaveShown();
  WatchForStall();
}

// So that a coordinator that restarts shows what this one showed.
void JobRunner::SaveShown() {
  if (Now() < saved_at_ + kSaveInterval) return;
  saved_at_ = Now();
  v1::JobStatus shown = Status();
  shown.clear_spec();
  environment_->writer->Write([id = job_.id, shown](Store& store) { return store.WriteShown(id, shown); });
}

// What the plan says of the epoch that begins on these workers.
void JobRunner::PredictSteps(const std::vector<WorkerRef>& workers) {
  if (environment_->planner == nullptr) return;
  std::vector<v1::MemberInfo> infos;
  for (const WorkerRef& worker : workers) {
    if (auto info = environment_->cluster->FindWorker(worker)) infos.push_back(*std::move(info));
  }
  std::vector<v1::MemberInfo> shards;
  for (const std::string& id : job_.shards) {
    if (auto info = environment_->cluster->FindShardInfo(id)) shards.push_back(*std::move(info));
  }
  plan_.Begin(environment_->planner->PredictJob(job_.spec, infos, shards));
}

void JobRunner::AddEvent(const std::string& message) {
  LogInfo("job {} ({}), epoch {}: {}", job_.spec.name(), job_.id, machine_.epoch(), message);
  environment_->writer->AddEvent({environment_->clock->Now(), job_.id, machine_.epoch(), message});
}

bool JobRunner::MayStall() const {
  return machine_.state() == v1::JOB_STATE_RUNNING && machine_.committed_step() < job_.spec.training().steps();
}

// One timer at a time, while the job trains.
void JobRunner::WatchForStall() {
  if (watching_ || !MayStall()) return;
  watching_ = true;
  environment_->loop->PostAt(Now() + kStallCheckInterval, [weak = weak_from_this()] {
    const auto runner = weak.lock();
    if (runner == nullptr) return;
    runner->watching_ = false;
    const absl::Duration silence = runner->Now() - runner->progress_at_;
    if (runner->MayStall() && runner->stall_.empty() && silence >= runner->progress_.stall_time()) {
      std::vector<RankView> ranks;
      for (const WorkerRef& worker : runner->machine_.gang().workers()) {
        if (auto view = runner->ViewOf(worker, runner->environment_->cluster->CursorOf(worker))) {
          ranks.push_back(*std::move(view));
        }
      }
      if (static_cast<int>(ranks.size()) == runner->mesh_.size()) {
        runner->stall_ = DescribeStall(runner->mesh_, ranks, silence);
        runner->AddEvent(runner->stall_);
      }
      runner->Publish();
    }
    runner->WatchForStall();
  });
}

}  // namespace penstock
