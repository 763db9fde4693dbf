// A job's checkpoints: when they are written, which one counts, what a restore goes back to.
#include "core/commit/job_machine.h"
#include "core/commit/test_job.h"

namespace penstock {
namespace {

using namespace job_action;  // NOLINT
const v1::JobState kRunning = v1::JOB_STATE_RUNNING, kRecovering = v1::JOB_STATE_RECOVERING,
                   kSucceeded = v1::JOB_STATE_SUCCEEDED, kFailed = v1::JOB_STATE_FAILED;

TEST(JobMachineCheckpointTest, CheckpointsAreWrittenOneAtATimeAndTheNewestCounts) {
  TestJob job(TestJobSpec(100));
  job.Start();
  for (uint64_t step = 1; step <= 5; ++step) job.Record(step);
  EXPECT_EQ(job.One<WriteCheckpoint>().step, 5u);
  for (uint64_t step = 6; step <= 10; ++step) job.Record(step);
  EXPECT_FALSE(job.Has<WriteCheckpoint>());
  for (uint64_t step = 11; step <= 15; ++step) job.Record(step);
  EXPECT_EQ(job.One<ReleaseSnapshot>().step, 10u);
  job.Take(job.machine.OnCheckpointDone(5, absl::ResourceExhaustedError("disk full"), job.now));
  EXPECT_EQ(job.One<WriteCheckpoint>().step, 15u);
  EXPECT_TRUE(job.Has<Note>());
  EXPECT_EQ(job.machine.state(), kRunning) << "a full disk doesn't stop the training";
}

TEST(JobMachineCheckpointTest, MissedReportsAreFetched) {
  TestJob job;
  job.Start();
  job.Record(1);
  job.Record(4);
  EXPECT_EQ(job.One<FetchSteps>().from_step, 2u);
  EXPECT_EQ(job.machine.committed_step(), 4u);
  job.Record(5);
  EXPECT_FALSE(job.Has<FetchSteps>()) << "one is under way";
  EXPECT_FALSE(job.Has<WriteCheckpoint>()) << "a checkpoint must not get ahead of the history";
  job.Take(job.machine.OnStepsFetched(1, absl::UnavailableError("reset"), job.now));
  EXPECT_FALSE(job.Has<WriteCheckpoint>());
  job.Record(6);
  EXPECT_EQ(job.One<FetchSteps>().from_step, 2u) << "still missing";
  job.Take(job.machine.OnStepsFetched(1, 6u, job.now));
  EXPECT_EQ(job.One<WriteCheckpoint>().step, 5u);
  job.Record(7);
  EXPECT_FALSE(job.Has<FetchSteps>());
}

TEST(JobMachineCheckpointTest, TheFinalCheckpointIsTriedAgainAndThenFailsTheJob) {
  TestJob job;
  job.Start();
  job.Record(20);
  job.Take(job.machine.OnStepsFetched(1, 20u, job.now));
  job.Take(job.machine.OnCheckpointDone(15, absl::OkStatus(), job.now));
  job.Take(job.machine.OnJobFinished(1, job.now));
  for (int attempt = 1; attempt <= 5; ++attempt) {
    EXPECT_EQ(job.One<WriteCheckpoint>().step, 20u) << attempt;
    job.Take(job.machine.OnCheckpointDone(20, absl::ResourceExhaustedError("disk full"), job.now));
    if (attempt == 5) break;
    job.now = job.machine.NextTick();
    job.Take(job.machine.OnTick(job.now));
  }
  EXPECT_EQ(job.machine.state(), kFailed);
  EXPECT_NE(job.machine.message().find("disk full"), std::string::npos) << job.machine.message();
}

TEST(JobMachineCheckpointTest, AShardLostWhileFinishingNeedsTheWorkersAgain) {
  TestJob job;
  job.Start();
  job.Record(20);
  job.Take(job.machine.OnStepsFetched(1, 20u, job.now));
  job.Take(job.machine.OnJobFinished(1, job.now));
  job.Take(job.machine.OnShardLost("params-0 was lost", job.now));
  EXPECT_EQ(job.machine.state(), kRecovering);
  job.AllStopped();
  job.Persisted();
  job.Take(job.machine.OnRestoreNeeded(2, "params-0 lost it", job.now));
  EXPECT_FALSE(job.One<PersistEpoch>().job.finished) << "a coordinator that restarts now must train on";
  job.Persisted();
  job.Opened(15);
  job.EpochReady(15);
  EXPECT_EQ(job.One<AssignRanks>().start_step, 15u);
  EXPECT_FALSE(job.machine.persisted().finished);
}

// Found by the simulation (seed 4602): the checkpoint that an interrupted finish asked for answers the next one.
TEST(JobMachineCheckpointTest, ACheckpointOfAnInterruptedFinishCounts) {
  for (const bool ok : {true, false}) {
    TestJob job;
    job.Start();
    job.Record(20);
    job.Take(job.machine.OnStepsFetched(1, 20u, job.now));
    job.Take(job.machine.OnCheckpointDone(15, absl::OkStatus(), job.now));
    job.Take(job.machine.OnJobFinished(1, job.now));
    ASSERT_EQ(job.One<WriteCheckpoint>().step, 20u);
    job.Take(job.machine.OnShardLost("params-0 was cut off", job.now));
    job.AllStopped();
    job.Persisted();
    job.EpochReady(20);
    EXPECT_FALSE(job.Has<AssignRanks>()) << "nothing is left to train";
    EXPECT_FALSE(job.Has<WriteCheckpoint>()) << "one is under way";
    job.Take(job.machine.OnCheckpointDone(20, ok ? absl::OkStatus() : absl::UnavailableError("reset"), job.now));
    if (!ok) {
      EXPECT_EQ(job.One<WriteCheckpoint>().step, 20u);
      job.Take(job.machine.OnCheckpointDone(20, absl::OkStatus(), job.now));
    }
    EXPECT_EQ(job.machine.state(), kSucceeded);
  }
}

// Found by the simulation (seed 17092): a checkpoint ahead of the history must not be restored from.
TEST(JobMachineCheckpointTest, ARestoreGoesNoFurtherThanTheHistory) {
  TestJob job;
  job.Offer(0, 4);
  job.Persisted();
  job.Opened(10);  // resumed from another run's checkpoint
  EXPECT_EQ(job.One<PersistJob>().job.base_step, 10u);
  job.EpochReady(10);
  job.AllReady();
  job.Record(11);
  job.Record(12);
  job.Take(job.machine.OnShardLost("params-0 was lost", job.now));
  job.Persisted();
  job.Take(job.machine.OnRestoreNeeded(2, "params-0 lost it", job.now));
  job.Persisted();
  EXPECT_EQ(job.One<OpenShards>().step_max, 12u);
}

TEST(JobMachineCheckpointTest, AnOlderCheckpointMovesTheBeginningOfTheHistoryBack) {
  TestJob job;
  job.Offer(0, 4);
  job.Persisted();
  job.Opened(10);  // resumed from another run's checkpoint
  job.EpochReady(10);
  job.AllReady();
  job.Take(job.machine.OnShardLost("params-0 was lost", job.now));
  job.Persisted();
  job.Take(job.machine.OnRestoreNeeded(2, "params-0 lost it", job.now));
  job.Persisted();
  job.Opened(5);  // the newer one is damaged
  EXPECT_EQ(job.One<PersistJob>().job.base_step, 5u);
}

}  // namespace
}  // namespace penstock
