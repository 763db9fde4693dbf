// What is durable: coordinators that restart, shards that lose their memory, checkpoints, a store that fails.
#include <gtest/gtest.h>

#include "coordinator/jobs/scheduler.h"
#include "coordinator/jobs/scheduler_rig.h"
#include "services/checkpoint/catalog.h"

namespace penstock {
namespace {

class SchedulerRestartTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* worker : {"worker-0", "worker-1"}) rig_.AddWorker(worker);
    for (const char* shard : {"params-0", "params-1"}) rig_.AddShard(shard);
  }
  std::string MustSubmit(const v1::JobSpec& spec) {
    const auto id = rig_.Submit(spec);
    EXPECT_TRUE(id.ok()) << id.status();
    return id.ok() ? *id : "";
  }
  v1::JobSpec SpecWithCheckpoints(uint64_t steps, uint64_t every) {
    v1::JobSpec spec = rig_.Spec("job", 2, steps);
    spec.mutable_checkpoint()->set_directory("/checkpoints");
    spec.mutable_checkpoint()->set_every_steps(every);
    spec.mutable_checkpoint()->set_keep(0);
    return spec;
  }
  void ReconnectAll() {
    for (const char* id : {"worker-0", "worker-1", "params-0", "params-1"}) rig_.Connect(id);
  }
  // As a new process of the same shard.
  void RestartShard(const std::string& id) {
    rig_.shards.Wipe(id);
    rig_.Kill(id);
    rig_.AddShard(id);
  }
  void ExpectState(const std::string& id, v1::JobState state) {
    EXPECT_EQ(v1::JobState_Name(rig_.Job(id).state()), v1::JobState_Name(state)) << rig_.Job(id).ShortDebugString();
  }
  void ExpectContains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in:\n" << text;
  }
  void ExpectWholeHistory(const std::string& id, uint64_t first, uint64_t last) {
    const auto steps = rig_.store.ReadSteps(id, 0, 1000);
    ASSERT_EQ(steps->size(), last - first + 1);
    for (size_t i = 0; i < steps->size(); ++i) EXPECT_EQ((*steps)[i].step(), first + i);
  }

  SchedulerRig rig_;
};

// --- The coordinator. ---

TEST_F(SchedulerRestartTest, AJobWhoseRanksComeBackGoesOnInItsEpoch) {
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 3);
  rig_.TrainUnreported(id, 2);  // while the coordinator is away
  rig_.Restart();
  ExpectState(id, v1::JOB_STATE_RUNNING);
  ReconnectAll();
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).epoch(), 1u);
  EXPECT_EQ(rig_.Job(id).recoveries(), 0u);
  // What was missed is read from the shards, which came back after the workers.
  rig_.Pass(absl::Seconds(1));
  EXPECT_EQ(rig_.Job(id).step(), 5u);
  ExpectContains(rig_.Events(id), "taken up again after the coordinator's restart, in epoch 1");
  rig_.Train(id, 5);
  rig_.FinishJob(id);
  ExpectState(id, v1::JOB_STATE_SUCCEEDED);
  ExpectWholeHistory(id, 1, 10);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 80u);
  EXPECT_EQ(rig_.Job(id).samples_repeated() + rig_.Job(id).samples_skipped(), 0u);
}

TEST_F(SchedulerRestartTest, AJobWhoseRankStaysAwayGetsANewEpoch) {
  rig_.AddWorker("worker-2");
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 3);
  rig_.Restart();
  for (const char* member : {"worker-0", "worker-2", "params-0", "params-1"}) rig_.Connect(member);
  rig_.Pass(absl::Seconds(10));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).epoch(), 2u);
  EXPECT_EQ(rig_.Job(id).step(), 3u);
  ExpectContains(rig_.Events(id), "1 of 2 ranks came back");
  EXPECT_TRUE(rig_.member("worker-1").running.has_value()) << "it still thinks that it runs";
  // When it does come back it is told to stop, and is a spare from then on.
  rig_.Connect("worker-1");
  EXPECT_FALSE(rig_.member("worker-1").running.has_value());
}

TEST_F(SchedulerRestartTest, WaitingAndEndedJobsAreRemembered) {
  const std::string ended = MustSubmit(rig_.Spec("ended", 2, 2));
  rig_.Train(ended, 2);
  rig_.FinishJob(ended);
  const std::string digest = rig_.Job(ended).digest();
  const std::string running = MustSubmit(rig_.Spec("running", 2, 2));
  const std::string waiting = MustSubmit(rig_.Spec("waiting", 2, 2));
  rig_.Restart();
  ExpectState(ended, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(rig_.Job(ended).digest(), digest);
  EXPECT_EQ(rig_.Job(ended).step(), 2u);
  EXPECT_EQ(rig_.Job(ended).spec().name(), "ended");
  ExpectState(waiting, v1::JOB_STATE_PENDING);
  ReconnectAll();
  rig_.Train(running, 2);
  rig_.FinishJob(running);
  ExpectState(waiting, v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerRestartTest, AnEndThatWasNotCleanedUpIs) {
  const std::string id = MustSubmit(rig_.Spec("job", 2, 2));
  rig_.shards.Fail("params-0", absl::UnavailableError("away"));
  rig_.shards.Fail("params-1", absl::UnavailableError("away"));
  rig_.member("worker-1").obedient = false;
  ASSERT_TRUE(rig_.Cancel(id).ok());
  rig_.Restart();
  ExpectState(id, v1::JOB_STATE_CANCELLED);
  rig_.shards.Fail("params-0", absl::OkStatus());
  rig_.shards.Fail("params-1", absl::OkStatus());
  rig_.member("worker-1").obedient = true;
  ReconnectAll();
  rig_.Pass(absl::Seconds(5));
  EXPECT_TRUE(rig_.WorkersOf(id).empty());
  const std::string next = MustSubmit(rig_.Spec("next", 2, 2));
  ExpectState(next, v1::JOB_STATE_RUNNING);
}

// --- Shards. ---

TEST_F(SchedulerRestartTest, AShardThatLostItsMemoryIsFilledFromTheNewestCheckpoint) {
  const std::string id = MustSubmit(SpecWithCheckpoints(20, 4));
  rig_.Train(id, 10);
  EXPECT_EQ(rig_.Job(id).last_checkpoint(), "/checkpoints/job/step-00000008");
  EXPECT_EQ(rig_.Job(id).digest_step(), 8u);
  EXPECT_TRUE(rig_.shards.Snapshots("params-0", id).empty()) << "released";
  RestartShard("params-1");
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 8u);
  ExpectWholeHistory(id, 1, 8);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 64u);
  rig_.Train(id, 12);
  rig_.FinishJob(id);
  ExpectState(id, v1::JOB_STATE_SUCCEEDED);
  ExpectWholeHistory(id, 1, 20);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 160u);
  EXPECT_EQ(rig_.Job(id).samples_repeated() + rig_.Job(id).samples_skipped(), 0u);
  EXPECT_EQ(rig_.Job(id).last_checkpoint(), "/checkpoints/job/step-00000020");
}

TEST_F(SchedulerRestartTest, WithoutACheckpointTheJobBeginsAnew) {
  const std::string id = MustSubmit(rig_.Spec("job", 2, 20));
  rig_.Train(id, 5);
  RestartShard("params-0");
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 0u);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 0u);
  EXPECT_TRUE(rig_.store.ReadSteps(id, 0, 10)->empty());
}

TEST_F(SchedulerRestartTest, ADamagedCheckpointIsLeftForTheNextOlderOne) {
  const std::string id = MustSubmit(SpecWithCheckpoints(20, 4));
  rig_.Train(id, 10);
  rig_.shards.DamageCheckpoint("/checkpoints/job/step-00000008");
  RestartShard("params-1");
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 4u);
  EXPECT_EQ(rig_.shards.CommittedStep("params-0", id), 4u);
  ExpectContains(rig_.Events(id), "the checkpoint /checkpoints/job/step-00000008 can't be used");
  ExpectContains(rig_.Events(id), "going on with /checkpoints/job/step-00000004");
  // The damaged one is written again when its step comes again.
  rig_.Train(id, 4);
  EXPECT_EQ(rig_.Job(id).last_checkpoint(), "/checkpoints/job/step-00000008");
}

TEST_F(SchedulerRestartTest, AShardThatIsAwayIsWaitedFor) {
  const std::string id = MustSubmit(rig_.Spec("job", 2, 20));
  rig_.Train(id, 2);
  rig_.shards.Fail("params-1", absl::UnavailableError("connection refused"));
  rig_.Disconnect("params-1");
  rig_.Pass(absl::Seconds(3));
  ExpectState(id, v1::JOB_STATE_RECOVERING);
  ExpectContains(rig_.Job(id).message(), "params-1 was lost");
  ExpectContains(rig_.Job(id).message(), "waiting for params-1 (UNAVAILABLE: connection refused)");
  rig_.shards.Fail("params-1", absl::OkStatus());
  rig_.Connect("params-1");
  rig_.Pass(absl::Seconds(5));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 2u);
}

TEST_F(SchedulerRestartTest, AJobThatDoesNotFitIntoTheShardsFails) {
  rig_.shards.Fail("params-1", absl::ResourceExhaustedError("the job needs 3 GB, 1 GB is left"));
  const std::string id = MustSubmit(rig_.Spec("job", 2, 20));
  ExpectState(id, v1::JOB_STATE_FAILED);
  ExpectContains(rig_.Job(id).message(), "1 GB is left");
}

TEST_F(SchedulerRestartTest, ACheckpointBeyondTheHistoryIsNotUsed) {
  const std::string id = MustSubmit(SpecWithCheckpoints(20, 4));
  rig_.Train(id, 10);
  // The store has lost its last writes, and the shards, which had the records, their memory.
  ASSERT_TRUE(rig_.store.CutSteps(id, 1, 3).ok());
  rig_.shards.Wipe("params-0");
  rig_.shards.Wipe("params-1");
  rig_.Restart();
  ReconnectAll();
  v1::MemberReport report;
  report.set_job_id(id);
  report.set_epoch(1);
  report.mutable_failed()->set_code(5);
  report.mutable_failed()->set_message("the job isn't open on this shard");
  rig_.Report("worker-0", report);
  rig_.Pass(absl::Seconds(5));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 0u) << rig_.Events(id);
  rig_.Train(id, 20);
  rig_.FinishJob(id);
  ExpectWholeHistory(id, 1, 20);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 160u);
}

// --- Resuming. ---

TEST_F(SchedulerRestartTest, AJobResumesFromTheNewestGoodCheckpoint) {
  const std::string first = MustSubmit(SpecWithCheckpoints(8, 4));
  rig_.Train(first, 8);
  rig_.FinishJob(first);
  ExpectState(first, v1::JOB_STATE_SUCCEEDED);
  const std::string second = MustSubmit(SpecWithCheckpoints(12, 4));
  ExpectState(second, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(second).step(), 8u);
  EXPECT_EQ(rig_.Job(second).samples_consumed(), 64u);
  rig_.Train(second, 1);
  // Also across a restart of the coordinator.
  rig_.Restart();
  ReconnectAll();
  EXPECT_EQ(rig_.Job(second).step(), 9u);
  EXPECT_EQ(rig_.Job(second).samples_consumed(), 72u);
  rig_.Train(second, 3);
  rig_.FinishJob(second);
  ExpectState(second, v1::JOB_STATE_SUCCEEDED);
  ExpectWholeHistory(second, 9, 12);
  EXPECT_EQ(rig_.Job(second).samples_consumed(), 96u);
  EXPECT_EQ(rig_.Job(second).samples_repeated() + rig_.Job(second).samples_skipped(), 0u);
}

TEST_F(SchedulerRestartTest, ADamagedCheckpointThatWasAskedForFailsTheJob) {
  const std::string first = MustSubmit(SpecWithCheckpoints(8, 4));
  rig_.Train(first, 8);
  rig_.FinishJob(first);
  rig_.shards.DamageCheckpoint("/checkpoints/job/step-00000004");
  v1::JobSpec spec = SpecWithCheckpoints(12, 4);
  spec.mutable_checkpoint()->set_resume(v1::CheckpointSpec::RESUME_PATH);
  spec.mutable_checkpoint()->set_resume_path("/checkpoints/job/step-00000004");
  const std::string id = MustSubmit(spec);
  ExpectState(id, v1::JOB_STATE_FAILED);
  ExpectContains(rig_.Job(id).message(), "piece 0 doesn't match its digest");
  // Nobody is held up by it.
  ExpectState(MustSubmit(rig_.Spec("next", 2, 2)), v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerRestartTest, AFullDiskCostsACheckpointAndNotTheJob) {
  const std::string id = MustSubmit(SpecWithCheckpoints(20, 4));
  rig_.Train(id, 4);
  EXPECT_EQ(rig_.Job(id).last_checkpoint(), "/checkpoints/job/step-00000004");
  rig_.blobs.FillDiskAfter(0, /*reserve=*/true);
  rig_.Train(id, 4);
  ExpectState(id, v1::JOB_STATE_RUNNING);
  ExpectContains(rig_.Events(id), "the checkpoint of step 8 couldn't be written");
  EXPECT_EQ(rig_.Job(id).last_checkpoint(), "/checkpoints/job/step-00000004");
  EXPECT_TRUE(rig_.shards.Snapshots("params-0", id).empty()) << "released";
  EXPECT_EQ(FindNewestCheckpoint(rig_.blobs, "/checkpoints/job")->step, 4u);
  rig_.blobs.FreeDisk();
  rig_.Train(id, 4);
  EXPECT_EQ(rig_.Job(id).last_checkpoint(), "/checkpoints/job/step-00000012");
}

TEST_F(SchedulerRestartTest, OldCheckpointsAreDeleted) {
  v1::JobSpec spec = SpecWithCheckpoints(20, 4);
  spec.mutable_checkpoint()->set_keep(2);
  const std::string id = MustSubmit(spec);
  rig_.Train(id, 12);
  const auto kept = ListCheckpoints(rig_.blobs, "/checkpoints/job");
  ASSERT_EQ(kept->size(), 2u);
  EXPECT_EQ((*kept)[1].step, 8u);
  ExpectState(id, v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerRestartTest, ACheckpointOfAnEarlierJobOfTheNameDoesNotCountAsThisOnes) {
  const std::string first = MustSubmit(SpecWithCheckpoints(8, 4));
  rig_.Train(first, 8);
  rig_.FinishJob(first);
  v1::JobSpec spec = SpecWithCheckpoints(20, 8);
  spec.mutable_checkpoint()->set_resume(v1::CheckpointSpec::RESUME_NEVER);
  const std::string second = MustSubmit(spec);
  EXPECT_EQ(rig_.Job(second).step(), 0u);
  rig_.Train(second, 2);
  RestartShard("params-0");
  EXPECT_EQ(rig_.Job(second).step(), 0u) << "`never` holds for a recovery, too";
  rig_.Train(second, 8);
  ExpectContains(rig_.Events(second), "checkpoint of step 8 is complete");
}

// --- The store. ---

TEST_F(SchedulerRestartTest, AnEpochThatCannotBeWrittenIsTriedAgain) {
  rig_.AddWorker("worker-2");
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 2);
  rig_.Kill("worker-1");
  rig_.store.FailWrites(3, absl::ResourceExhaustedError("the disk is full"));
  rig_.Pass(absl::Seconds(30));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).epoch(), 2u);
  EXPECT_EQ(rig_.Job(id).step(), 2u);
}

TEST_F(SchedulerRestartTest, ASubmissionThatCannotBeStoredIsRefused) {
  rig_.store.FailWrites(1, absl::ResourceExhaustedError("the disk is full"));
  EXPECT_EQ(rig_.Submit(rig_.Spec("job", 2, 10), "request").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(rig_.view.jobs.empty());
  // The name and the request are free again.
  EXPECT_TRUE(rig_.Submit(rig_.Spec("job", 2, 10), "request").ok());
}

TEST_F(SchedulerRestartTest, AnEpochThatAnotherCoordinatorTookIsRespectedAndOvertaken) {
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 2);
  PersistedJob other;
  other.state = v1::JOB_STATE_RECOVERING;
  other.epoch = 2;
  other.open_epoch = 1;
  other.shards_open = true;
  ASSERT_TRUE(rig_.store.PersistEpoch(id, "another coordinator", other, rig_.clock.Now()).ok());
  rig_.Kill("worker-1");
  rig_.AddWorker("worker-1");
  ExpectContains(rig_.Events(id), "this coordinator lets go of the job");
  // Members report here, so it reads the store again and goes on with an epoch newer than any.
  rig_.Pass(absl::Seconds(20));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).epoch(), 3u);
  EXPECT_EQ(rig_.Job(id).step(), 2u);
}

}  // namespace
}  // namespace penstock
