// The coordinator's mind: who is in the cluster, which jobs there are, and who works on what.
//
// The queue is first in, first out, and all or nothing: a job gets all the workers that it wants at once, an older job
// before a younger one, also when it is recovering. A job that wants more than are registered holds up nobody. Each job
// that waits says why.
//
// Lives in the event loop: everything but what is marked thread-safe is called there. Files: scheduler.cc (start,
// submission, end), scheduler_members.cc (members and their reports), scheduler_queue.cc (who gets which workers).
#ifndef PENSTOCK_COORDINATOR_JOBS_SCHEDULER_H_
#define PENSTOCK_COORDINATOR_JOBS_SCHEDULER_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/jobs/job_environment.h"
#include "coordinator/jobs/job_runner.h"
#include "coordinator/membership/lease_table.h"
#include "coordinator/membership/service.h"

namespace penstock {

// Jobs that have not ended.
inline constexpr size_t kLiveJobsMax = 1000;
// Ended jobs that are kept, in the store, too; the oldest go first.
inline constexpr size_t kEndedJobsMax = 1000;
// After a restart a submission that wants more than is registered waits so long for members on their way back.
inline constexpr absl::Duration kReturnTimeMax = absl::Seconds(5);
// A job that another coordinator seemed to have is read from the store again after this.
inline constexpr absl::Duration kReadAgainPause = absl::Seconds(1);
// A worker that runs what nobody wants is told to stop that often.
inline constexpr absl::Duration kStrayStopInterval = absl::Seconds(2);

// A member whose stream has broken is asked for that often, until it is back, gone, or its lease ends.
inline constexpr absl::Duration kGoneQuestionPause = absl::Milliseconds(50);
// Members that are asked for at once. The others have their lease.
inline constexpr int kGoneQuestionsMax = 16;

// What the scheduler shows to the outside. Called in the event loop.
class SchedulerView {
 public:
  virtual ~SchedulerView() = default;
  // In the order of submission when it is a job's first.
  virtual void ShowJob(const v1::JobStatus& status) = 0;
  virtual void ShowStep(const v1::JobStatus& status, const v1::StepRecord& record) = 0;
  virtual void ForgetJob(const std::string& id) = 0;
  virtual void ShowMembers(const std::vector<v1::MemberStatus>& members) = 0;
  // The rendezvous of a job's epochs.
  virtual void BeginEpoch(const std::string& job_id, uint64_t epoch) = 0;
  virtual void EndEpochs(const std::string& job_id) = 0;
};

class Scheduler final : public Cluster, public MembershipListener {
 public:
  struct Options {
    absl::Duration lease = absl::Seconds(2);
    // After a start: how long, beyond the lease, members may take to come back before jobs are told that they are
    // missing.
    absl::Duration return_grace = absl::Seconds(3);
    // Of each job's machine; spec and adopt_timeout are filled in.
    JobMachine::Options machine;
    // Whether the process that served at the address is certainly gone (ConnectionRefused). Called on the pool's
    // threads, for members whose stream has broken. Null: only the lease tells.
    std::function<bool(const std::string& address)> is_gone;
  };
  using Done = std::function<void(absl::StatusOr<v1::JobStatus>)>;

  // All outlive the scheduler. environment.cluster is set by the scheduler.
  Scheduler(Options options, JobEnvironment environment, MemberStreams* streams, SchedulerView* view);

  // Reads the store and takes up what it finds. Once, before anything else; the loop may not run yet.
  absl::Status Recover();

  // --- Clients. Thread-safe; `done` is called in the event loop, and not at all when the coordinator stops. ---
  // `job`: id, request id, sound spec, time of submission. ALREADY_EXISTS: a live job has the name. RESOURCE_EXHAUSTED:
  // it wants more workers or shards than are registered, or the queue is full.
  void Submit(StoredJob job, Done done);
  // The job with the request id, if there is one. FAILED_PRECONDITION when it has ended; NOT_FOUND.
  void Cancel(const std::string& id, Done done);
  void ListMembers(v1::MemberRole role, std::function<void(std::vector<v1::MemberStatus>)> done);
  void FindRequest(const std::string& request_id, Done done);

  // --- MembershipListener. Thread-safe. ---
  void OnReport(uint64_t stream, v1::MemberReport report, absl::Time arrived) override;
  void OnEnd(uint64_t stream, const std::string& reason) override;

  // --- Cluster. ---
  std::optional<ShardAddress> FindShard(const std::string& id) const override;
  std::optional<v1::MemberInfo> FindShardInfo(const std::string& id) const override;
  std::vector<std::string> LivingShards() const override;
  std::optional<v1::MemberInfo> FindWorker(const WorkerRef& worker) const override;
  v1::Cursor CursorOf(const WorkerRef& worker) const override;
  bool IsConnected(const WorkerRef& worker) const override;
  void Send(const WorkerRef& worker, const v1::MemberCommand& command) override;
  void Evict(const WorkerRef& worker, const std::string& reason) override;
  void ScheduleSoon() override;
  void BeginEpoch(const std::string& job_id, uint64_t epoch) override { view_->BeginEpoch(job_id, epoch); }
  void EndEpochs(const std::string& job_id) override { view_->EndEpochs(job_id); }
  void Show(const v1::JobStatus& status) override;
  void ShowStep(const std::string& job_id, const v1::StepRecord& record) override;
  void JobIsDone(const std::string& job_id) override;

 private:
  // A worker that runs a rank which nobody wants; of no use until it has stopped.
  struct Stray {
    uint64_t incarnation = 0;
    std::string job_id;
    uint64_t epoch = 0;
  };
  struct WaitingSubmission {
    StoredJob job;
    Done done;
  };
  // The jobs that are not done, oldest first.
  using Runners = std::vector<std::shared_ptr<JobRunner>>;

  // scheduler.cc
  JobMachine::Options MachineOptions(const v1::JobSpec& spec) const;
  void TakeUp(StoredJob job, const std::vector<v1::StepRecord>& history);
  void ReadAgain(const std::string& id);
  void DoSubmit(StoredJob job, Done done);
  void AddJob(StoredJob job, Done done);
  absl::Status CheckCapacity(const v1::JobSpec& spec) const;
  void RetryWaitingSubmissions();
  void AddEnded(const std::string& id, const std::string& request_id);
  void AddEvent(const std::string& message);
  std::shared_ptr<JobRunner> FindRunner(const std::string& id) const;

  // scheduler_members.cc
  void HandleReport(uint64_t stream, const v1::MemberReport& report, absl::Time arrived);
  void HandleHello(uint64_t stream, const v1::Hello& hello, absl::Time arrived);
  void HandleWorkerHello(const WorkerRef& worker, const std::optional<v1::RunningRank>& running);
  void HandleLost(const LeaseTable::Lost& lost);
  void ArmLeaseTick();
  // Of a member without a stream.
  void AskWhetherGone(const WorkerRef& member);
  void StopStray(const std::string& worker_id);
  std::vector<v1::MemberStatus> MemberStatuses(v1::MemberRole role) const;
  void ShowMembers();
  absl::Time Now() const { return environment_.clock->Monotonic(); }

  // scheduler_queue.cc
  void Schedule();
  // Registered workers of that kind which has most, of those that the job may have.
  int LargestKind(const v1::JobSpec& spec) const;
  std::vector<WorkerRef> IdleWorkers() const;
  // Also says which kinds there are: "2 CPU, 1 CUDA with NCCL 2.28.9".
  std::vector<WorkerRef> OfOneKind(const JobRunner& runner, const std::vector<WorkerRef>& idle,
                                   std::string* kinds) const;
  std::vector<WorkerRef> ChooseWorkers(const JobRunner& runner, const std::vector<WorkerRef>& idle) const;
  int RegisteredWorkers() const;
  std::string BusyDetail(const JobRunner& waiting) const;
  bool OlderOfSameName(const JobRunner& runner) const;
  bool YieldFor(size_t index, size_t wanted, size_t idle);
  void OfferOrExplain(size_t index, std::vector<WorkerRef>* idle, std::string* ahead);

  const Options options_;
  JobEnvironment environment_;
  MemberStreams* const streams_;
  SchedulerView* const view_;
  const absl::Time started_at_;
  // The store wasn't empty: members of the last coordinator's may be on their way.
  bool restarted_ = false;

  LeaseTable leases_;
  absl::Time lease_tick_at_ = absl::InfiniteFuture();
  int gone_questions_ = 0;
  std::map<std::string, Stray> strays_;

  Runners runners_;
  // Names that are being written to the store.
  std::set<std::string> names_in_flight_;
  // By request id: the job's id.
  std::map<std::string, std::string> requests_;
  // Ended jobs, oldest first: id and request id.
  std::deque<std::pair<std::string, std::string>> ended_;
  std::map<std::string, v1::JobStatus> shown_;
  std::vector<WaitingSubmission> waiting_submissions_;
  std::multimap<std::string, Done> waiting_for_end_;
  bool scheduling_soon_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_SCHEDULER_H_
