// Runs one job: feeds its JobMachine (core/commit/job_machine.h) with what happens and puts the machine's actions into
// effect. Keeps what is shown of the job: speed, losses, ledger, digest.
//
// Lives in the event loop. Actions are executed in order; behind one that has to be in the store first (PersistJob) the
// others wait, and so does what users see: an end is never shown before it is durable. Everything else that waits runs
// beside, as a task, and its answer is posted to the loop. Files: job_runner.cc (events, the queue of actions),
// job_runner_actions.cc, job_runner_epoch.cc and job_runner_checkpoint.cc (the actions), job_runner_status.cc (what is
// shown, and who waits for whom).
#ifndef PENSTOCK_COORDINATOR_JOBS_JOB_RUNNER_H_
#define PENSTOCK_COORDINATOR_JOBS_JOB_RUNNER_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/jobs/checkpoint_task.h"
#include "coordinator/jobs/diagnosis.h"
#include "coordinator/jobs/job_environment.h"
#include "coordinator/jobs/ledger.h"
#include "coordinator/jobs/open_task.h"
#include "coordinator/jobs/plan_tracker.h"
#include "coordinator/jobs/progress.h"
#include "coordinator/store/store.h"
#include "core/commit/epoch_change.h"
#include "core/commit/job_machine.h"
#include "core/mesh/mesh.h"

namespace penstock {

class JobRunner : public std::enable_shared_from_this<JobRunner> {
 public:
  // `job.spec` is sound (core/plan/job_rules.h). The environment outlives the runner.
  JobRunner(const JobEnvironment* environment, StoredJob job, JobMachine::Options options);

  // After construction, once: shows the job. Of a job found in the store also takes it up again, with its stored
  // history.
  void Begin();
  void Restore(const std::vector<v1::StepRecord>& history);

  const std::string& id() const { return job_.id; }
  const v1::JobSpec& spec() const { return job_.spec; }
  const std::string& request_id() const { return job_.request_id; }
  absl::Time submitted_at() const { return job_.submitted_at; }
  const JobMachine& machine() const { return machine_; }
  const Mesh& mesh() const { return mesh_; }
  bool UsesShard(const std::string& id) const;
  v1::JobStatus Status() const;

  // --- What happens. ---
  void OnWorkersOffered(const std::vector<WorkerRef>& workers);
  void OnWorkersShort(int registered, int idle, const std::string& detail);
  void OnYieldWorkers();
  void OnWorkerJoined(const WorkerRef& worker, const std::optional<v1::RunningRank>& running);
  // `cursor`: what it last said.
  void OnWorkerLost(const WorkerRef& worker, const v1::Cursor& cursor, const std::string& reason);
  void OnShardLost(const std::string& reason);
  void OnReport(const WorkerRef& worker, const v1::MemberReport& report);
  void Cancel();

 private:
  // job_runner.cc
  void Handle(JobActions actions);
  void Pump();
  void ArmTick();
  void OnRankFailed(const WorkerRef& worker, uint64_t epoch, const v1::RankFailed& failed);
  void OnStep(uint64_t epoch, v1::StepRecord record);
  void OnValidation(uint64_t epoch, const v1::ValidationRecord& validation);
  std::optional<RankView> ViewOf(const WorkerRef& worker, const v1::Cursor& cursor) const;
  absl::Time Now() const { return environment_->clock->Monotonic(); }

  // job_runner_actions.cc, job_runner_epoch.cc, job_runner_checkpoint.cc: one for each action.
  void Execute(const job_action::PersistEpoch& action);
  void Execute(const job_action::PersistJob& action);
  void Execute(const job_action::OpenShards& action);
  void Execute(const job_action::StartEpochChange& action);
  void Execute(const job_action::CutHistory& action);
  void Execute(const job_action::FetchSteps& action);
  void Execute(const job_action::AssignRanks& action);
  void Execute(const job_action::StopRanks& action);
  void Execute(const job_action::ReleaseWorkers& action);
  void Execute(const job_action::EvictWorker& action);
  void Execute(const job_action::WriteCheckpoint& action);
  void Execute(const job_action::ReleaseSnapshot& action);
  void Execute(const job_action::TakeDigest& action);
  void Execute(const job_action::CloseShards& action);
  void Execute(const job_action::Note& action);
  void Execute(const job_action::StepDown& action);
  absl::Status ChooseShards();
  void OpenOnShards(const job_action::OpenShards& action);
  void OnOpened(uint64_t epoch, const absl::StatusOr<OpenTask::Opened>& opened);
  void HandleChange(uint64_t epoch, EpochChange::Actions actions);
  void SendSeal(uint64_t epoch, int shard);
  void SendDecide(uint64_t epoch, const EpochChange::SendDecide& decide);
  void ArmChangeTick();
  void FetchFrom(size_t shard, const job_action::FetchSteps& action);
  void OnFetched(const job_action::FetchSteps& action, const absl::StatusOr<v1::GetStepsResponse>& fetched);
  void OnCheckpointWritten(uint64_t step, const absl::StatusOr<CheckpointTask::Written>& written);
  void ReleaseSnapshots(uint64_t step);
  void CutCheckpointUnderWay();
  template <typename Response>
  typename FanOut<Response>::Options FanOutOptions() const;
  // The shard's address; UNAVAILABLE for one that was never heard of.
  absl::StatusOr<ShardAddress> AddressOf(size_t shard) const;
  // Runs `task` in the loop, if this runner still lives then.
  template <typename Task>
  auto Posted(Task task);

  // job_runner_status.cc
  void Publish();
  void SaveShown();
  void AddEvent(const std::string& message);
  void WatchForStall();
  bool MayStall() const;
  void PredictSteps(const std::vector<WorkerRef>& workers);

  // Constant after construction.
  const JobEnvironment* const environment_;
  const Mesh mesh_;

  StoredJob job_;
  JobMachine machine_;

  // Actions that wait their turn; blocked_: behind a write that is under way.
  std::deque<JobAction> actions_;
  bool blocked_ = false;
  bool pumping_ = false;
  bool reported_done_ = false;
  absl::Time tick_at_ = absl::InfiniteFuture();

  // Tasks under way.
  std::shared_ptr<OpenTask> open_;
  std::unique_ptr<EpochChange> change_;
  absl::Time change_tick_at_ = absl::InfiniteFuture();
  std::shared_ptr<CheckpointTask> checkpoint_;
  uint64_t checkpoint_step_ = 0;
  // Of the shards' processes that hold the job, as they last said; empty when it isn't known.
  std::vector<uint64_t> incarnations_;

  // What is shown.
  Ledger ledger_;
  Progress progress_;
  PlanTracker plan_;
  std::optional<double> loss_;
  uint64_t loss_step_ = 0;
  std::optional<double> validation_loss_;
  uint64_t validation_step_ = 0;
  std::string digest_;
  uint64_t digest_step_ = 0;
  std::string last_checkpoint_;
  std::optional<absl::Time> ended_at_;
  std::string stall_;
  // For stalls: when a step was last known to be committed, and which.
  absl::Time progress_at_;
  uint64_t progress_step_ = 0;
  bool watching_ = false;
  absl::Time saved_at_ = absl::InfinitePast();
};

template <typename Task>
auto JobRunner::Posted(Task task) {
  // By value: the answer may come on any thread.
  return [weak = weak_from_this(), loop = environment_->loop, task = std::move(task)](auto... answer) {
    loop->Post([weak, task, answer...]() mutable {
      if (const auto runner = weak.lock()) task(*runner, std::move(answer)...);
    });
  };
}

template <typename Response>
typename FanOut<Response>::Options JobRunner::FanOutOptions() const {
  typename FanOut<Response>::Options options;
  options.loop = environment_->loop;
  options.clock = environment_->clock;
  options.shards = job_.shards;
  return options;
}

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_JOB_RUNNER_H_
