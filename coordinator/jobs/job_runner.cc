#include "coordinator/jobs/job_runner.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"
#include "services/base/log.h"

namespace penstock {
namespace {

Mesh MeshOfSound(const v1::JobSpec& spec) {
  const absl::StatusOr<Mesh> mesh = MeshOf(spec);
  PENSTOCK_CHECK(mesh.ok());
  return *mesh;
}

}  // namespace

JobRunner::JobRunner(const JobEnvironment* environment, StoredJob job, JobMachine::Options options)
    : environment_(environment),
      mesh_(MeshOfSound(job.spec)),
      job_(std::move(job)),
      machine_(std::move(options)),
      ledger_(job_.persisted.base_step, SamplesConsumed(job_.spec, job_.persisted.base_step)),
      progress_at_(environment_->clock->Monotonic()) {}

void JobRunner::Begin() { Handle({}); }

void JobRunner::Restore(const std::vector<v1::StepRecord>& history) {
  for (const v1::StepRecord& record : history) {
    ledger_.Add(record);
    loss_ = record.loss();
    loss_step_ = record.step();
    if (record.has_validation_loss()) {
      validation_loss_ = record.validation_loss();
      validation_step_ = record.step();
    }
    progress_.Add(record);
  }
  digest_ = job_.shown.digest();
  digest_step_ = job_.shown.digest_step();
  last_checkpoint_ = job_.shown.last_checkpoint();
  if (job_.shown.has_ended_at()) {
    ended_at_ =
        absl::FromUnixSeconds(job_.shown.ended_at().seconds()) + absl::Nanoseconds(job_.shown.ended_at().nanos());
  }
  // What comes after a hole is fetched again with what is missing.
  Handle(machine_.Restore(job_.persisted, ledger_.contiguous_step(), Now()));
}

bool JobRunner::UsesShard(const std::string& id) const {
  for (const std::string& shard : job_.shards) {
    if (shard == id) return true;
  }
  return false;
}

// --- The queue of actions. ---

void JobRunner::Handle(JobActions actions) {
  for (JobAction& action : actions) actions_.push_back(std::move(action));
  if (!machine_.live() && !ended_at_.has_value()) ended_at_ = environment_->clock->Now();
  Pump();
}

void JobRunner::Pump() {
  // An action may answer before it returns; the outer call goes on with what that added.
  if (pumping_) return;
  pumping_ = true;
  while (!blocked_ && !actions_.empty()) {
    const JobAction action = std::move(actions_.front());
    actions_.pop_front();
    std::visit([this](const auto& a) { Execute(a); }, action);
  }
  pumping_ = false;
  if (blocked_) return;
  Publish();
  ArmTick();
  environment_->cluster->ScheduleSoon();
  if (machine_.done() && !reported_done_) {
    reported_done_ = true;
    environment_->cluster->EndEpochs(job_.id);
    environment_->cluster->JobIsDone(job_.id);
  }
}

void JobRunner::ArmTick() {
  const absl::Time next = machine_.NextTick();
  if (next >= tick_at_) return;
  tick_at_ = next;
  environment_->loop->PostAt(next, [weak = weak_from_this(), next] {
    const auto runner = weak.lock();
    if (runner == nullptr || runner->tick_at_ != next) return;
    runner->tick_at_ = absl::InfiniteFuture();
    runner->Handle(runner->machine_.OnTick(runner->Now()));
  });
}

// --- Workers. ---

void JobRunner::OnWorkersOffered(const std::vector<WorkerRef>& workers) {
  Handle(machine_.OnWorkersOffered(workers, Now()));
}

void JobRunner::OnWorkersShort(int registered, int idle, const std::string& detail) {
  const std::string before = machine_.message();
  JobActions actions = machine_.OnWorkersShort(registered, idle, detail, Now());
  // Told again and again: most of the time nothing is new.
  if (!actions.empty() || machine_.message() != before) Handle(std::move(actions));
}

void JobRunner::OnYieldWorkers() { Handle(machine_.OnYieldWorkers(Now())); }

void JobRunner::OnWorkerJoined(const WorkerRef& worker, const std::optional<v1::RunningRank>& running) {
  Handle(machine_.OnWorkerJoined(worker, running, Now()));
}

std::optional<RankView> JobRunner::ViewOf(const WorkerRef& worker, const v1::Cursor& cursor) const {
  const std::optional<int> rank = machine_.gang().RankOf(worker);
  if (!rank.has_value()) return std::nullopt;
  RankView view{*rank, worker.id, std::nullopt};
  if (cursor.job_id() == job_.id && cursor.epoch() == machine_.gang().slot(*rank)->epoch) view.cursor = cursor;
  return view;
}

void JobRunner::OnWorkerLost(const WorkerRef& worker, const v1::Cursor& cursor, const std::string& reason) {
  const std::optional<RankView> view = ViewOf(worker, cursor);
  if (!view.has_value()) return;
  Handle(machine_.OnWorkerLost(worker, DescribeLost(mesh_, *view, reason), Now()));
}

void JobRunner::OnShardLost(const std::string& reason) { Handle(machine_.OnShardLost(reason, Now())); }

void JobRunner::Cancel() { Handle(machine_.OnCancel(Now())); }

// --- Reports. ---

void JobRunner::OnReport(const WorkerRef& worker, const v1::MemberReport& report) {
  switch (report.report_case()) {
    case v1::MemberReport::kReady:
      Handle(machine_.OnRankReady(report.epoch(), worker, Now()));
      break;
    case v1::MemberReport::kFailed:
      OnRankFailed(worker, report.epoch(), report.failed());
      break;
    case v1::MemberReport::kStopped:
      Handle(machine_.OnRankStopped(report.epoch(), worker, Now()));
      break;
    case v1::MemberReport::kStep:
      // Not asked from whom: a leader of this epoch may have been lost since, but what it says was committed.
      OnStep(report.epoch(), report.step());
      break;
    case v1::MemberReport::kValidation:
      OnValidation(report.epoch(), report.validation());
      break;
    case v1::MemberReport::kFinished:
      Handle(machine_.OnJobFinished(report.epoch(), Now()));
      break;
    case v1::MemberReport::kHello:
    case v1::MemberReport::kHeartbeat:
    case v1::MemberReport::REPORT_NOT_SET:
      break;
  }
}

void JobRunner::OnRankFailed(const WorkerRef& worker, uint64_t epoch, const v1::RankFailed& failed) {
  const std::optional<RankView> view = ViewOf(worker, failed.cursor());
  if (!view.has_value()) return;
  // The one it blames, if the coordinator has lost sight of it, too.
  std::optional<RankView> suspect;
  for (const WorkerRef& other : machine_.gang().workers()) {
    if (other.id != failed.suspect_worker_id() || environment_->cluster->IsConnected(other)) continue;
    suspect = ViewOf(other, environment_->cluster->CursorOf(other));
  }
  Handle(
      machine_.OnRankFailed(epoch, worker, DescribeFailure(mesh_, *view, failed, suspect), failed.permanent(), Now()));
}

void JobRunner::OnStep(uint64_t epoch, v1::StepRecord record) {
  if (epoch != machine_.epoch() || record.step() == 0 || record.step() > job_.spec.training().steps()) return;
  record.set_epoch(epoch);
  const bool known = ledger_.Has(record.step());
  if (!known) {
    ledger_.Add(record);
    progress_.Add(record);
    if (const std::optional<MeasuredStep> measured = plan_.Add(record)) {
      environment_->planner->Learn(job_.spec, *plan_.prediction(), *measured);
    }
    environment_->cluster->ShowStep(job_.id, record);
  }
  if (record.step() >= loss_step_) {
    loss_ = record.loss();
    loss_step_ = record.step();
  }
  environment_->writer->AddSteps(job_.id, epoch, {record}, /*replace=*/true);
  Handle(machine_.OnStepRecord(epoch, record, Now()));
}

void JobRunner::OnValidation(uint64_t epoch, const v1::ValidationRecord& validation) {
  if (epoch != machine_.epoch() || validation.step() > job_.spec.training().steps()) return;
  if (validation.step() >= validation_step_) {
    validation_loss_ = validation.loss();
    validation_step_ = validation.step();
  }
  // The leader evaluates between two steps: it gets on.
  progress_at_ = Now();
  environment_->writer->Write([id = job_.id, epoch, validation](Store& store) {
    return store.WriteValidation(id, epoch, validation.step(), validation.loss());
  });
  Publish();
}

}  // namespace penstock
