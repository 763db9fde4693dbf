#include "core/commit/job_machine.h"

#include "core/commit/test_job.h"

namespace penstock {
namespace {

using namespace job_action;  // NOLINT
const v1::JobState kPending = v1::JOB_STATE_PENDING, kStarting = v1::JOB_STATE_STARTING,
                   kRunning = v1::JOB_STATE_RUNNING, kRecovering = v1::JOB_STATE_RECOVERING,
                   kSucceeded = v1::JOB_STATE_SUCCEEDED, kFailed = v1::JOB_STATE_FAILED,
                   kCancelled = v1::JOB_STATE_CANCELLED;

TEST(JobMachineTest, StartsStepByStep) {
  TestJob job;
  EXPECT_EQ(job.machine.state(), kPending);
  EXPECT_EQ(job.machine.WorkersWanted(), 4);
  job.machine.OnWorkersShort(4, 2, "2 of 4 registered are busy with job other", job.now);
  EXPECT_EQ(job.machine.message(), "needs 4 workers: 2 of 4 registered are busy with job other");

  job.Offer(0, 4);
  EXPECT_EQ(job.machine.state(), kStarting);
  EXPECT_EQ(job.machine.WorkersWanted(), 0);
  const PersistedJob persisted = job.One<PersistEpoch>().job;
  EXPECT_EQ(persisted.epoch, 1u);
  EXPECT_EQ(persisted.open_epoch, 1u);
  EXPECT_TRUE(persisted.shards_open);
  EXPECT_EQ(job.last.size(), 1u) << "nothing is used before it is persisted";

  job.Persisted();
  EXPECT_EQ(job.One<OpenShards>().epoch, 1u);
  EXPECT_FALSE(job.One<OpenShards>().restore);
  job.Opened();
  EXPECT_EQ(job.One<StartEpochChange>().open_epoch, 1u);
  EXPECT_FALSE(job.Has<AssignRanks>());
  job.EpochReady(0);
  const AssignRanks assign = job.One<AssignRanks>();
  EXPECT_EQ(assign.epoch, 1u);
  EXPECT_EQ(assign.start_step, 0u);
  EXPECT_EQ(assign.workers, (std::vector<WorkerRef>{job.Worker(0), job.Worker(1), job.Worker(2), job.Worker(3)}));
  for (int i = 0; i < 3; ++i) job.Take(job.machine.OnRankReady(1, job.Worker(i), job.now));
  EXPECT_EQ(job.machine.state(), kStarting);
  job.Take(job.machine.OnRankReady(1, job.Worker(3), job.now));
  EXPECT_EQ(job.machine.state(), kRunning);
  EXPECT_EQ(job.machine.message(), "");
  EXPECT_TRUE(job.Has<PersistJob>());
}

TEST(JobMachineTest, AGangIsTakenAsAWholeOrNotAtAll) {
  TestJob job;
  job.Offer(0, 3);
  EXPECT_EQ(job.One<ReleaseWorkers>().workers.size(), 3u);
  EXPECT_EQ(job.machine.state(), kPending);
  EXPECT_EQ(job.machine.gang().held(), 0);
}

TEST(JobMachineTest, RunsToSuccess) {
  TestJob job;
  job.Start();
  for (uint64_t step = 1; step <= 20; ++step) {
    job.Record(step);
    EXPECT_EQ(job.Has<WriteCheckpoint>(), step % 5 == 0 && step < 20) << step;
    if (job.Has<WriteCheckpoint>()) job.Take(job.machine.OnCheckpointDone(step, absl::OkStatus(), job.now));
  }
  EXPECT_EQ(job.machine.committed_step(), 20u);
  job.Take(job.machine.OnJobFinished(1, job.now));
  EXPECT_EQ(job.machine.state(), kRunning);
  EXPECT_TRUE(job.One<PersistJob>().job.finished);
  EXPECT_EQ(job.One<WriteCheckpoint>().step, 20u);
  EXPECT_FALSE(job.Has<FetchSteps>()) << "the history is whole";
  EXPECT_FALSE(job.Has<TakeDigest>()) << "it comes with the checkpoint";
  EXPECT_EQ(job.machine.gang().held(), 4) << "a shard that dies now needs them again";

  job.Take(job.machine.OnCheckpointDone(20, absl::OkStatus(), job.now));
  EXPECT_EQ(job.machine.state(), kSucceeded);
  EXPECT_EQ(job.All<StopRanks>().size(), 4u);
  EXPECT_EQ(job.One<CloseShards>().epoch, 1u);
  EXPECT_TRUE(job.One<PersistJob>().job.shards_open) << "so that a restart goes on cleaning up";
  EXPECT_FALSE(job.machine.done());
  job.AllStopped();
  EXPECT_EQ(job.One<ReleaseWorkers>().workers, std::vector<WorkerRef>{job.Worker(3)});
  EXPECT_FALSE(job.machine.done());
  job.Take(job.machine.OnShardsClosed(1, job.now));
  EXPECT_TRUE(job.machine.done());
  EXPECT_FALSE(job.One<PersistJob>().job.shards_open);
  EXPECT_EQ(job.machine.NextTick(), absl::InfiniteFuture());
}

TEST(JobMachineTest, WithoutCheckpointsTheDigestIsTaken) {
  v1::JobSpec spec = TestJobSpec(6, false);
  spec.mutable_training()->set_digest_every_steps(2);
  TestJob job(spec);
  job.Start();
  for (uint64_t step = 1; step <= 6; ++step) {
    job.Record(step);
    EXPECT_EQ(job.Has<TakeDigest>(), step % 2 == 0 && step < 6) << step;
  }
  job.Take(job.machine.OnJobFinished(1, job.now));
  EXPECT_EQ(job.One<TakeDigest>().step, 6u);
  EXPECT_FALSE(job.Has<WriteCheckpoint>());
  job.Take(job.machine.OnDigestDone(6, absl::OkStatus(), job.now));
  EXPECT_EQ(job.machine.state(), kSucceeded);
}

TEST(JobMachineTest, ALostWorkerIsReplacedByASpare) {
  TestJob job;
  job.Start();
  job.Record(1);
  job.Take(job.machine.OnRankFailed(1, job.Worker(0), "worker-0: connection closed", false, job.now));
  EXPECT_EQ(job.machine.state(), kRecovering);
  EXPECT_EQ(job.machine.recoveries(), 1u);
  EXPECT_EQ(job.All<StopRanks>().size(), 4u);
  EXPECT_EQ(job.One<PersistEpoch>().job.epoch, 2u);
  EXPECT_EQ(job.One<PersistEpoch>().job.open_epoch, 1u);
  job.Take(job.machine.OnRankFailed(1, job.Worker(1), "worker-1: connection closed", false, job.now));
  EXPECT_FALSE(job.Has<PersistEpoch>()) << "the same failure";
  job.Take(job.machine.OnWorkerLost(job.Worker(2), "worker-2 was lost: lease expired", job.now));
  EXPECT_NE(job.machine.message().find("worker-2 was lost"), std::string::npos) << job.machine.message();
  EXPECT_EQ(job.machine.WorkersWanted(), 1);
  job.Persisted();
  EXPECT_EQ(job.One<StartEpochChange>().epoch, 2u);
  EXPECT_FALSE(job.Has<OpenShards>());
  job.EpochReady(2);
  EXPECT_EQ(job.One<FetchSteps>().from_step, 2u) << "step 2 was completed without its leader";
  EXPECT_EQ(job.One<CutHistory>().step, 2u);
  EXPECT_FALSE(job.Has<AssignRanks>());
  job.Offer(7, 1);
  EXPECT_FALSE(job.Has<AssignRanks>()) << "the survivors haven't stopped";
  job.Take(job.machine.OnRankStopped(1, job.Worker(0), job.now));
  job.Take(job.machine.OnRankStopped(1, job.Worker(1), job.now));
  EXPECT_FALSE(job.Has<AssignRanks>());
  job.Take(job.machine.OnRankStopped(1, job.Worker(3), job.now));
  const AssignRanks assign = job.One<AssignRanks>();
  EXPECT_EQ(assign.workers, (std::vector<WorkerRef>{job.Worker(0), job.Worker(1), job.Worker(7), job.Worker(3)}));
  EXPECT_EQ(assign.start_step, 2u);
  EXPECT_EQ(assign.epoch, 2u);
  job.AllReady();
  EXPECT_EQ(job.machine.state(), kRunning);
}

TEST(JobMachineTest, WithoutASpareItWaitsAndSaysForWhat) {
  TestJob job;
  job.Start();
  job.Take(job.machine.OnWorkerLost(job.Worker(2), "worker-2 was lost", job.now));
  job.AllStopped();
  job.Persisted();
  job.EpochReady(0);
  job.machine.OnWorkersShort(3, 0, "", job.now);
  EXPECT_EQ(job.machine.state(), kRecovering);
  EXPECT_EQ(job.machine.message(), "worker-2 was lost; waiting for 1 more worker: 3 of 4 are registered");
  job.Take(job.machine.OnTick(job.now + absl::Hours(5)));
  EXPECT_EQ(job.machine.state(), kRecovering);
  job.Offer(4, 1);
  EXPECT_TRUE(job.Has<AssignRanks>());
}

TEST(JobMachineTest, WaitingWorkersAreYieldedToAnOlderJob) {
  TestJob job;
  job.Start();
  job.Take(job.machine.OnYieldWorkers(job.now));
  EXPECT_TRUE(job.last.empty()) << "it runs";
  job.Take(job.machine.OnWorkerLost(job.Worker(2), "worker-2 was lost", job.now));
  job.Take(job.machine.OnRankStopped(1, job.Worker(0), job.now));
  job.Take(job.machine.OnYieldWorkers(job.now));
  EXPECT_EQ(job.One<ReleaseWorkers>().workers, std::vector<WorkerRef>{job.Worker(0)}) << "others are still stopping";
  EXPECT_EQ(job.machine.WorkersWanted(), 2);
}

TEST(JobMachineTest, ARankThatDoesNotStopIsEvicted) {
  TestJob job;
  job.Start();
  job.Take(job.machine.OnRankFailed(1, job.Worker(1), "failed", false, job.now));
  for (int i : {0, 1, 2}) job.Take(job.machine.OnRankStopped(1, job.Worker(i), job.now));
  job.Persisted();
  job.EpochReady(0);
  EXPECT_NE(job.machine.message().find("waiting until worker-3 has stopped"), std::string::npos)
      << job.machine.message();
  int resent = 0;
  for (; job.now < absl::FromUnixSeconds(1029); job.now += absl::Seconds(1)) {
    job.Take(job.machine.OnTick(job.now));
    resent += static_cast<int>(job.All<StopRanks>().size());
    ASSERT_FALSE(job.Has<EvictWorker>());
  }
  EXPECT_GT(resent, 10);
  job.now = absl::FromUnixSeconds(1030);
  job.Take(job.machine.OnTick(job.now));
  EXPECT_EQ(job.One<EvictWorker>().worker, job.Worker(3));
  EXPECT_EQ(job.machine.WorkersWanted(), 1);
  job.Offer(5, 1);
  EXPECT_EQ(job.One<AssignRanks>().workers[3], job.Worker(5));
}

TEST(JobMachineTest, RanksThatDoNotGetReadyBeginANewEpoch) {
  TestJob job;
  job.Offer(0, 4);
  job.Persisted();
  job.Opened();
  job.EpochReady(0);
  job.Take(job.machine.OnRankReady(1, job.Worker(0), job.now));
  ASSERT_EQ(job.machine.NextTick(), job.now + absl::Minutes(2));
  job.Take(job.machine.OnTick(job.now + absl::Minutes(2)));
  EXPECT_EQ(job.One<PersistEpoch>().job.epoch, 2u);
  EXPECT_NE(job.machine.message().find("rank 1 (worker-1), rank 2 (worker-2), rank 3"), std::string::npos)
      << job.machine.message();
}

TEST(JobMachineTest, APermanentFailureFailsTheJob) {
  TestJob job;
  job.Start();
  job.Take(job.machine.OnRankFailed(1, job.Worker(0), "step 3: gradient norm is not finite", true, job.now));
  EXPECT_EQ(job.machine.state(), kFailed);
  EXPECT_EQ(job.machine.message(), "step 3: gradient norm is not finite");
  EXPECT_EQ(job.All<StopRanks>().size(), 4u);
  EXPECT_TRUE(job.Has<CloseShards>());
  job.Take(job.machine.OnShardsClosed(1, job.now));
  job.Take(job.machine.OnWorkerLost(job.Worker(0), "lost", job.now));
  EXPECT_FALSE(job.machine.done());
  for (int i : {1, 2, 3}) job.Take(job.machine.OnRankStopped(1, job.Worker(i), job.now));
  EXPECT_TRUE(job.machine.done());
  EXPECT_EQ(job.machine.gang().held(), 0);
}

TEST(JobMachineTest, TooManyRecoveriesWithoutProgressFailTheJob) {
  TestJob job;
  job.Start();
  for (int i = 0; i < 5; ++i) {
    job.Record(1);  // no progress but the first time
    job.Take(job.machine.OnRankFailed(job.machine.epoch(), job.Worker(0), "the same bug", false, job.now));
    job.Recover(1);
  }
  job.Take(job.machine.OnRankFailed(job.machine.epoch(), job.Worker(0), "the same bug", false, job.now));
  EXPECT_EQ(job.machine.state(), kFailed);
  EXPECT_NE(job.machine.message().find("the same bug"), std::string::npos);
}

TEST(JobMachineTest, ProgressResetsTheCount) {
  TestJob job(TestJobSpec(1000));
  job.Start();
  for (uint64_t step = 1; step <= 30; ++step) {
    job.Record(step);
    job.Take(job.machine.OnRankFailed(job.machine.epoch(), job.Worker(0), "unlucky", false, job.now));
    job.Recover(step);
  }
  EXPECT_EQ(job.machine.recoveries(), 30u);
}

TEST(JobMachineTest, EventsOfOldEpochsAndOfStrangersChangeNothing) {
  TestJob job;
  job.Start();
  job.Take(job.machine.OnRankFailed(1, job.Worker(0), "failed", false, job.now));
  job.Recover(0);
  ASSERT_EQ(job.machine.epoch(), 2u);
  v1::StepRecord record;
  record.set_step(7);
  job.Take(job.machine.OnStepRecord(1, record, job.now));
  EXPECT_EQ(job.machine.committed_step(), 0u);
  job.Take(job.machine.OnRankFailed(1, job.Worker(0), "late", true, job.now));
  job.Take(job.machine.OnRankFailed(2, job.Worker(9), "stranger", true, job.now));
  job.Take(job.machine.OnRankFailed(2, job.Worker(0, /*incarnation=*/2), "another life", true, job.now));
  job.Take(job.machine.OnWorkerLost(job.Worker(9), "stranger", job.now));
  job.Take(job.machine.OnJobFinished(1, job.now));
  job.Take(job.machine.OnRankStopped(1, job.Worker(0), job.now));
  job.Take(job.machine.OnEpochPersisted(1, absl::FailedPreconditionError("late"), job.now));
  job.Take(job.machine.OnRestoreNeeded(1, "late", job.now));
  job.Take(job.machine.OnCheckpointDone(5, absl::OkStatus(), job.now));
  EXPECT_EQ(job.machine.state(), kRunning);
  EXPECT_EQ(job.machine.epoch(), 2u);
}

TEST(JobMachineTest, CancelInEveryPhase) {
  for (int phase = 0; phase < 8; ++phase) {
    TestJob job;
    if (phase >= 1) job.Offer(0, 4);
    if (phase >= 2) job.Persisted();
    if (phase >= 3) job.Opened();
    if (phase >= 4) job.EpochReady(0);
    if (phase >= 5) job.AllReady();
    if (phase == 6) job.Take(job.machine.OnWorkerLost(job.Worker(0), "lost", job.now));
    if (phase == 7) job.Take(job.machine.OnJobFinished(1, job.now));
    job.Take(job.machine.OnCancel(job.now));
    if (phase == 1 || phase == 6) {
      EXPECT_FALSE(job.Has<PersistJob>() || job.Has<CloseShards>()) << "not before the epoch is known to be ours";
      job.Take(job.machine.OnCancel(job.now));
      job.Persisted();
    }
    EXPECT_EQ(job.machine.state(), kCancelled) << phase;
    EXPECT_EQ(job.Has<CloseShards>(), phase >= 1);
    job.AllStopped();
    job.Take(job.machine.OnShardsClosed(job.machine.epoch(), job.now));
    EXPECT_TRUE(job.machine.done()) << phase;
    EXPECT_EQ(job.machine.gang().held(), 0) << phase;
    job.Take(job.machine.OnCancel(job.now));
    EXPECT_TRUE(job.last.empty());
    // Late answers of what was under way.
    job.Persisted();
    job.Opened();
    job.EpochReady(0);
    EXPECT_TRUE(job.last.empty());
  }
}

TEST(JobMachineTest, ALostShardIsSealedAgainOrRestored) {
  TestJob job;
  job.Start();
  for (uint64_t step = 1; step <= 7; ++step) job.Record(step);
  job.Take(job.machine.OnShardLost("params-1 was lost", job.now));
  EXPECT_EQ(job.machine.state(), kRecovering);
  job.AllStopped();
  job.Persisted();
  job.Take(job.machine.OnRestoreNeeded(2, "params-1 doesn't hold the job any more", job.now));
  EXPECT_EQ(job.One<PersistEpoch>().job.epoch, 3u);
  EXPECT_EQ(job.One<PersistEpoch>().job.open_epoch, 3u);
  job.Persisted();
  EXPECT_TRUE(job.One<OpenShards>().restore);
  job.Opened(5);
  EXPECT_EQ(job.One<StartEpochChange>().open_epoch, 3u);
  EXPECT_EQ(job.machine.committed_step(), 5u);
  job.EpochReady(5);
  EXPECT_EQ(job.One<CutHistory>().step, 5u);
  EXPECT_EQ(job.One<AssignRanks>().start_step, 5u);
  EXPECT_FALSE(job.Has<WriteCheckpoint>());
  job.AllReady();
  job.Record(6);
  EXPECT_EQ(job.machine.persisted().recoveries_without_progress, 2u) << "step 6 was there before";
  job.Record(7);
  job.Record(8);
  EXPECT_EQ(job.machine.persisted().recoveries_without_progress, 0u);
}

TEST(JobMachineTest, ErrorsOfOpeningAndPersisting) {
  TestJob job;
  job.Offer(0, 4);
  job.Take(job.machine.OnEpochPersisted(1, absl::UnavailableError("disk busy"), job.now));
  EXPECT_TRUE(job.last.empty());
  job.Take(job.machine.OnTick(job.machine.NextTick()));
  EXPECT_EQ(job.One<PersistEpoch>().job.epoch, 1u);
  job.Persisted();
  job.Take(job.machine.OnShardsOpened(1, absl::UnavailableError("connection refused"), job.now));
  job.Take(job.machine.OnTick(job.machine.NextTick()));
  EXPECT_EQ(job.One<OpenShards>().epoch, 1u);
  job.Take(job.machine.OnShardsOpened(1, absl::ResourceExhaustedError("needs 12 GiB, 8 GiB are free"), job.now));
  EXPECT_EQ(job.machine.state(), kFailed);
  EXPECT_NE(job.machine.message().find("needs 12 GiB"), std::string::npos);
  EXPECT_EQ(job.One<ReleaseWorkers>().workers.size(), 4u);
}

TEST(JobMachineTest, AnOldCoordinatorStepsDown) {
  for (int where = 0; where < 3; ++where) {
    TestJob job;
    job.Offer(0, 4);
    if (where == 0) job.Take(job.machine.OnEpochPersisted(1, absl::AbortedError("the store has epoch 3"), job.now));
    if (where >= 1) job.Persisted();
    if (where == 1)
      job.Take(job.machine.OnShardsOpened(1, absl::FailedPreconditionError("epoch 3 is sealed"), job.now));
    if (where == 2) {
      job.Opened();
      job.Take(job.machine.OnEpochChangeFailed(1, absl::FailedPreconditionError("epoch 1 is over"), job.now));
    }
    EXPECT_TRUE(job.Has<job_action::StepDown>()) << where;
    EXPECT_TRUE(job.machine.done());
    job.Take(job.machine.OnTick(job.now + absl::Hours(1)));
    job.Take(job.machine.OnCancel(job.now));
    EXPECT_TRUE(job.last.empty());
  }
}

// Found by the simulation (seed 17770): an old coordinator must not end a job under an epoch that it doesn't have.
TEST(JobMachineTest, ACancelUnderAnEpochThatIsRefusedDoesNothing) {
  TestJob job;
  job.Start();
  job.Take(job.machine.OnWorkerLost(job.Worker(0), "lost", job.now));
  job.Take(job.machine.OnCancel(job.now));
  job.Take(job.machine.OnEpochPersisted(2, absl::FailedPreconditionError("taken"), job.now));
  EXPECT_EQ(job.last.size(), 1u);
  EXPECT_TRUE(job.Has<job_action::StepDown>());
}

}  // namespace
}  // namespace penstock
