// A whole scheduler in a test's hands: fake clock, store, shards, disk and streams, and workers that do as they are
// told. Single-threaded: everything happens in Settle() and Pass().
#ifndef PENSTOCK_COORDINATOR_JOBS_SCHEDULER_RIG_H_
#define PENSTOCK_COORDINATOR_JOBS_SCHEDULER_RIG_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/jobs/fake_shards.h"
#include "coordinator/jobs/manual_loop.h"
#include "coordinator/jobs/scheduler.h"
#include "coordinator/store/fake_store.h"
#include "services/base/fake_clock.h"
#include "services/storage/fake_blobs.h"

namespace penstock {

// What the scheduler does to streams, kept to be looked at.
class FakeStreams final : public MemberStreams {
 public:
  void Send(uint64_t stream, const v1::MemberCommand& command) override { commands.emplace_back(stream, command); }
  void End(uint64_t stream, const absl::Status& status) override {
    // The first reason stays.
    ended.try_emplace(stream, status);
  }

  std::deque<std::pair<uint64_t, v1::MemberCommand>> commands;
  std::map<uint64_t, absl::Status> ended;
};

class FakeView final : public SchedulerView {
 public:
  void ShowJob(const v1::JobStatus& status) override { jobs[status.id()] = status; }
  void ShowStep(const v1::JobStatus&, const v1::StepRecord&) override { ++steps; }
  void ForgetJob(const std::string& id) override { jobs.erase(id); }
  void ShowMembers(const std::vector<v1::MemberStatus>& all) override { members = all; }
  void BeginEpoch(const std::string& job_id, uint64_t epoch) override { epochs[job_id] = epoch; }
  void EndEpochs(const std::string& job_id) override { epochs.erase(job_id); }

  std::map<std::string, v1::JobStatus> jobs;
  std::map<std::string, uint64_t> epochs;
  std::vector<v1::MemberStatus> members;
  int steps = 0;
};

// A worker or shard as the scheduler sees it.
struct FakeMember {
  v1::MemberInfo info;
  // 0: no stream.
  uint64_t stream = 0;
  std::optional<v1::RunningRank> running;
  v1::Cursor cursor;
  // Answers an assignment with RankReady, a stop with RankStopped.
  bool obedient = true;
};

class SchedulerRig {
 public:
  SchedulerRig();

  // A new coordinator on the same store: the old one is gone, streams are broken.
  void Restart();

  // --- Members. ---
  void AddWorker(const std::string& id);
  void AddShard(const std::string& id);
  // The process's stream begins (again).
  void Connect(const std::string& id);
  // The stream breaks; the process goes on.
  void Disconnect(const std::string& id);
  // kill -9.
  void Kill(const std::string& id);
  FakeMember& member(const std::string& id) { return members_.at(id); }
  void Report(const std::string& id, const v1::MemberReport& report);

  // --- Jobs. ---
  // A small job that is sound; `workers` data ranks.
  v1::JobSpec Spec(const std::string& name, uint32_t workers, uint64_t steps) const;
  // Its id, or the error.
  absl::StatusOr<std::string> Submit(const v1::JobSpec& spec, const std::string& request_id = "");
  absl::Status Cancel(const std::string& id);
  const v1::JobStatus& Job(const std::string& id) { return view.jobs.at(id); }
  // The leader commits this many steps and reports them.
  void Train(const std::string& id, int steps);
  // ... and doesn't report them.
  void TrainUnreported(const std::string& id, int steps);
  void FinishJob(const std::string& id);
  // The workers of the job, by rank.
  std::vector<std::string> WorkersOf(const std::string& id) const;
  // All messages, oldest first, joined with newlines.
  std::string Events(const std::string& id);

  // --- Time. ---
  // Runs what there is to run, and lets members answer.
  void Settle();
  // Time passes; living members send heartbeats.
  void Pass(absl::Duration duration);

  // What the host says of a broken member's process; null: nobody is asked.
  std::function<bool(const std::string& address)> is_gone;

  FakeClock clock;
  FakeStore store;
  FakeBlobs blobs;
  FakeShards shards{&blobs};
  FakeStreams streams;
  FakeView view;

 private:
  void Build();
  bool AnswerCommands();
  void Answer(FakeMember& member, const v1::MemberCommand& command);
  FakeMember* ByStream(uint64_t stream);

  std::unique_ptr<ManualLoop> loop_;
  std::unique_ptr<WorkPool> pool_;
  std::unique_ptr<StoreWriter> writer_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<std::string, FakeMember> members_;
  uint64_t next_stream_ = 1;
  uint64_t next_incarnation_ = 1;
  int next_job_ = 1;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_SCHEDULER_RIG_H_
