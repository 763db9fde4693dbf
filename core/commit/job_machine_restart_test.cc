// A coordinator that restarts: what it finds in its store, and who comes back.
#include "core/commit/job_machine.h"
#include "core/commit/test_job.h"

namespace penstock {
namespace {

using namespace job_action;  // NOLINT

v1::RunningRank Running(uint64_t epoch, uint32_t rank) {
  v1::RunningRank running;
  running.set_epoch(epoch);
  running.set_rank(rank);
  return running;
}

PersistedJob Stored(v1::JobState state) {
  PersistedJob job;
  job.state = state;
  job.epoch = 6;
  job.open_epoch = 4;
  job.shards_open = true;
  job.recoveries = 2;
  return job;
}

TEST(JobMachineRestartTest, AdoptsAJobWhoseRanksAllComeBack) {
  TestJob job;
  job.Take(job.machine.Restore(Stored(v1::JOB_STATE_RUNNING), 7, job.now));
  EXPECT_TRUE(job.last.empty());
  for (uint32_t rank : {2, 0, 1}) job.Take(job.machine.OnWorkerJoined(job.Worker(rank), Running(6, rank), job.now));
  EXPECT_EQ(job.machine.message(), "the coordinator restarted: 3 of 4 ranks are back");
  v1::StepRecord record;
  record.set_step(9);
  job.Take(job.machine.OnStepRecord(6, record, job.now));
  EXPECT_EQ(job.One<FetchSteps>().from_step, 8u);
  job.Take(job.machine.OnWorkerJoined(job.Worker(3), Running(6, 3), job.now));
  EXPECT_EQ(job.machine.state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(job.machine.epoch(), 6u);
  EXPECT_EQ(job.machine.recoveries(), 2u);
  job.Take(job.machine.OnTick(job.now + absl::Hours(1)));
  EXPECT_EQ(job.machine.epoch(), 6u);
  EXPECT_EQ(job.machine.gang().RankOf(job.Worker(2)), 2);
}

TEST(JobMachineRestartTest, ARankThatStaysAwayMeansANewEpoch) {
  TestJob job;
  job.Take(job.machine.Restore(Stored(v1::JOB_STATE_RUNNING), 7, job.now));
  for (uint32_t rank : {0, 1, 2}) job.Take(job.machine.OnWorkerJoined(job.Worker(rank), Running(6, rank), job.now));
  job.now = job.machine.NextTick();
  job.Take(job.machine.OnTick(job.now));
  EXPECT_EQ(job.One<PersistEpoch>().job.epoch, 7u);
  EXPECT_EQ(job.All<StopRanks>().size(), 3u);
  EXPECT_EQ(job.machine.recoveries(), 3u);
  // Too late: it is told to stop.
  job.Take(job.machine.OnWorkerJoined(job.Worker(3), Running(6, 3), job.now));
  EXPECT_EQ(job.One<StopRanks>().epoch, 6u);
  job.AllStopped();
  job.Persisted();
  EXPECT_EQ(job.One<StartEpochChange>().open_epoch, 4u);
  job.EpochReady(9);
  EXPECT_EQ(job.One<FetchSteps>().from_step, 8u);
  job.Offer(3, 1);
  EXPECT_EQ(job.One<AssignRanks>().start_step, 9u);
}

TEST(JobMachineRestartTest, RanksOfAnotherEpochAreNotAdopted) {
  TestJob job;
  // The old coordinator died after it had persisted epoch 6, and before it used it.
  job.Take(job.machine.Restore(Stored(v1::JOB_STATE_RECOVERING), 7, job.now));
  job.Take(job.machine.OnWorkerJoined(job.Worker(0), Running(5, 0), job.now));
  EXPECT_EQ(job.One<StopRanks>().epoch, 5u);
  EXPECT_EQ(job.machine.gang().held(), 0);
  job.Take(job.machine.OnWorkerJoined(job.Worker(1), Running(6, 1), job.now));
  job.Take(job.machine.OnWorkerJoined(job.Worker(2), Running(6, 1), job.now));
  EXPECT_TRUE(job.Has<StopRanks>()) << "the rank is taken";
  job.Take(job.machine.OnWorkerJoined(job.Worker(3), Running(6, 17), job.now));
  EXPECT_TRUE(job.Has<StopRanks>()) << "no such rank";
}

TEST(JobMachineRestartTest, AJobThatWasBeingOpenedIsOpenedAgain) {
  TestJob job;
  PersistedJob stored = Stored(v1::JOB_STATE_STARTING);
  stored.epoch = stored.open_epoch = 1;
  job.Take(job.machine.Restore(stored, 0, job.now));
  job.Take(job.machine.OnTick(job.machine.NextTick()));
  job.Persisted();
  job.Take(job.machine.OnRestoreNeeded(2, "params-0 doesn't hold the job", job.now));
  EXPECT_EQ(job.One<PersistEpoch>().job.open_epoch, 3u);
  job.Persisted();
  EXPECT_TRUE(job.Has<OpenShards>());
}

TEST(JobMachineRestartTest, PendingFinishedAndEndedJobs) {
  TestJob pending;
  PersistedJob fresh;
  pending.Take(pending.machine.Restore(fresh, 0, pending.now));
  EXPECT_EQ(pending.machine.WorkersWanted(), 4);

  TestJob finished;
  PersistedJob stored = Stored(v1::JOB_STATE_RUNNING);
  stored.finished = true;
  finished.Take(finished.machine.Restore(stored, 19, finished.now));
  EXPECT_EQ(finished.One<FetchSteps>().from_step, 20u);
  EXPECT_FALSE(finished.Has<WriteCheckpoint>());
  finished.Take(finished.machine.OnWorkerJoined(finished.Worker(0), Running(6, 0), finished.now));
  EXPECT_TRUE(finished.Has<StopRanks>());
  finished.Take(finished.machine.OnStepsFetched(6, 20u, finished.now));
  EXPECT_EQ(finished.One<WriteCheckpoint>().step, 20u);
  finished.Take(finished.machine.OnCheckpointDone(20, absl::OkStatus(), finished.now));
  EXPECT_EQ(finished.machine.state(), v1::JOB_STATE_SUCCEEDED);

  TestJob cleaning;
  cleaning.Take(cleaning.machine.Restore(Stored(v1::JOB_STATE_FAILED), 7, cleaning.now));
  EXPECT_TRUE(cleaning.Has<CloseShards>());
  EXPECT_FALSE(cleaning.machine.done());
  cleaning.Take(cleaning.machine.OnShardsClosed(6, cleaning.now));
  EXPECT_TRUE(cleaning.machine.done());

  TestJob ended;
  stored = Stored(v1::JOB_STATE_CANCELLED);
  stored.shards_open = false;
  ended.Take(ended.machine.Restore(stored, 7, ended.now));
  EXPECT_TRUE(ended.machine.done());
}

TEST(JobMachineRestartTest, AFinishReportThatWasLostIsNotWaitedForForEver) {
  TestJob job;
  job.Take(job.machine.Restore(Stored(v1::JOB_STATE_RUNNING), 18, job.now));
  for (uint32_t rank : {0, 1, 2, 3}) job.Take(job.machine.OnWorkerJoined(job.Worker(rank), Running(6, rank), job.now));
  EXPECT_TRUE(job.Has<FetchSteps>());
  job.Take(job.machine.OnStepsFetched(6, 20u, job.now));
  ASSERT_EQ(job.machine.NextTick(), job.now + absl::Minutes(2));
  job.Take(job.machine.OnTick(job.now + absl::Minutes(2)));
  EXPECT_EQ(job.One<PersistEpoch>().job.epoch, 7u);
  job.AllStopped();
  job.Persisted();
  job.EpochReady(20);
  EXPECT_EQ(job.One<AssignRanks>().start_step, 20u) << "for the last validation";
  job.AllReady();
  job.Take(job.machine.OnJobFinished(7, job.now));
  EXPECT_EQ(job.One<WriteCheckpoint>().step, 20u);
}

// The shards may come back after the workers.
TEST(JobMachineRestartTest, AHistoryThatCannotBeReadYetIsAskedForAgain) {
  TestJob job;
  job.Take(job.machine.Restore(Stored(v1::JOB_STATE_RUNNING), 7, job.now));
  for (uint32_t rank : {0, 1, 2, 3}) job.Take(job.machine.OnWorkerJoined(job.Worker(rank), Running(6, rank), job.now));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(job.One<FetchSteps>().from_step, 8u);
    job.Take(job.machine.OnStepsFetched(6, absl::UnavailableError("not registered"), job.now));
    EXPECT_TRUE(job.last.empty());
    job.now = job.machine.NextTick();
    job.Take(job.machine.OnTick(job.now));
  }
  job.Take(job.machine.OnStepsFetched(6, 9u, job.now));
  EXPECT_EQ(job.machine.committed_step(), 9u);
  EXPECT_EQ(job.machine.NextTick(), absl::InfiniteFuture());
}

TEST(JobMachineRestartTest, AWorkerThatComesBackWithoutItsRank) {
  TestJob job;
  job.Start();
  job.Take(job.machine.OnWorkerJoined(job.Worker(1), Running(1, 1), job.now));
  EXPECT_TRUE(job.last.empty()) << "only its stream was cut";
  job.Take(job.machine.OnWorkerJoined(job.Worker(1), std::nullopt, job.now));
  EXPECT_EQ(job.machine.state(), v1::JOB_STATE_RECOVERING);
  EXPECT_EQ(job.All<StopRanks>().size(), 3u) << "it holds nothing any more";
  job.Take(job.machine.OnWorkerJoined(job.Worker(0), Running(1, 0), job.now));
  EXPECT_TRUE(job.Has<StopRanks>());
  job.Take(job.machine.OnWorkerJoined(job.Worker(0), std::nullopt, job.now));
  job.Take(job.machine.OnRankStopped(1, job.Worker(2), job.now));
  job.Persisted();
  job.EpochReady(0);
  EXPECT_FALSE(job.Has<AssignRanks>());
  job.Take(job.machine.OnRankStopped(1, job.Worker(3), job.now));
  EXPECT_TRUE(job.Has<AssignRanks>());
}

}  // namespace
}  // namespace penstock
