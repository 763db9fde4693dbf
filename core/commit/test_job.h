// A JobMachine under test with shorthands: the last event's actions by type, and whole phases that go well.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/commit/job_machine.h"
#include "gtest/gtest.h"

namespace penstock {

inline v1::JobSpec TestJobSpec(uint64_t steps = 20, bool checkpoints = true) {
  v1::JobSpec spec;
  spec.set_name("test");
  spec.mutable_training()->set_steps(steps);
  spec.mutable_parallel()->set_pipeline(2);
  spec.mutable_parallel()->set_data(2);
  spec.mutable_parallel()->set_tensor(1);
  if (checkpoints) {
    spec.mutable_checkpoint()->set_directory("checkpoints");
    spec.mutable_checkpoint()->set_every_steps(5);
  }
  return spec;
}

class TestJob {
 public:
  explicit TestJob(v1::JobSpec spec = TestJobSpec()) : machine(JobMachine::Options{.spec = std::move(spec)}) {}

  // Takes an event's actions. Later ones of the same event don't hide earlier events': only these are looked at.
  void Take(JobActions actions) { last = std::move(actions); }

  template <typename T>
  std::vector<T> All() const {
    std::vector<T> found;
    for (const JobAction& action : last) {
      if (const T* hit = std::get_if<T>(&action)) found.push_back(*hit);
    }
    return found;
  }
  template <typename T>
  T One() const {
    const std::vector<T> found = All<T>();
    EXPECT_EQ(found.size(), 1u) << "in the actions of the last event";
    return found.empty() ? T{} : found[0];
  }
  template <typename T>
  bool Has() const {
    return !All<T>().empty();
  }

  static WorkerRef Worker(int i, uint64_t incarnation = 1) { return {"worker-" + std::to_string(i), incarnation}; }

  void Offer(int first, int count) {
    std::vector<WorkerRef> workers;
    for (int i = first; i < first + count; ++i) workers.push_back(Worker(i));
    Take(machine.OnWorkersOffered(workers, now));
  }
  void Persisted() { Take(machine.OnEpochPersisted(machine.epoch(), absl::OkStatus(), now)); }
  void Opened(uint64_t step = 0) { Take(machine.OnShardsOpened(machine.epoch(), step, now)); }
  void EpochReady(uint64_t start_step) {
    Take(machine.OnEpochReady(machine.epoch(),
                              EpochChange::Ready{.start_step = start_step, .completed = {}, .incarnations = {}}, now));
  }
  void AllReady() {
    for (const WorkerRef& worker : machine.gang().workers()) Take(machine.OnRankReady(machine.epoch(), worker, now));
  }
  void AllStopped() {
    for (const WorkerRef& worker : machine.gang().workers()) Take(machine.OnRankStopped(machine.epoch(), worker, now));
  }
  void Record(uint64_t step) {
    v1::StepRecord record;
    record.set_step(step);
    Take(machine.OnStepRecord(machine.epoch(), record, now));
  }
  // From PENDING to RUNNING, on workers 0 to 3.
  void Start() {
    Offer(0, 4);
    Persisted();
    Opened();
    EpochReady(0);
    AllReady();
    ASSERT_EQ(machine.state(), v1::JOB_STATE_RUNNING);
  }
  // Everything after BeginRecovery, with no worker lost.
  void Recover(uint64_t start_step) {
    AllStopped();
    Persisted();
    EpochReady(start_step);
    AllReady();
    ASSERT_EQ(machine.state(), v1::JOB_STATE_RUNNING);
  }

  JobMachine machine;
  JobActions last;
  absl::Time now = absl::FromUnixSeconds(1000);
};

}  // namespace penstock
