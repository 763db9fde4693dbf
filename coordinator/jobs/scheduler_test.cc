// Jobs from their submission to their end, through failures: the scheduler with everything around it faked.
#include "coordinator/jobs/scheduler.h"

#include <gtest/gtest.h>

#include "coordinator/jobs/scheduler_rig.h"

namespace penstock {
namespace {

using testing::Test;

class SchedulerTest : public Test {
 protected:
  void AddCluster(int workers, int shards) {
    for (int i = 0; i < workers; ++i) rig_.AddWorker("worker-" + std::to_string(i));
    for (int i = 0; i < shards; ++i) rig_.AddShard("params-" + std::to_string(i));
  }
  std::string MustSubmit(const v1::JobSpec& spec) {
    const auto id = rig_.Submit(spec);
    EXPECT_TRUE(id.ok()) << id.status();
    return id.ok() ? *id : "";
  }
  void ExpectState(const std::string& id, v1::JobState state) {
    EXPECT_EQ(v1::JobState_Name(rig_.Job(id).state()), v1::JobState_Name(state)) << rig_.Job(id).ShortDebugString();
  }
  void ExpectContains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in:\n" << text;
  }

  SchedulerRig rig_;
};

// --- Without failures. ---

TEST_F(SchedulerTest, AJobRunsToItsEnd) {
  AddCluster(4, 2);
  const std::string id = MustSubmit(rig_.Spec("first", 4, 10));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.view.epochs.at(id), 1u);
  rig_.Train(id, 4);
  EXPECT_EQ(rig_.Job(id).step(), 4u);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 32u);
  EXPECT_DOUBLE_EQ(rig_.Job(id).loss(), 0.25);
  EXPECT_DOUBLE_EQ(rig_.Job(id).step_seconds(), 0.1);
  EXPECT_DOUBLE_EQ(rig_.Job(id).tokens_per_second(), 2560);
  rig_.Train(id, 6);
  rig_.FinishJob(id);
  ExpectState(id, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(rig_.Job(id).digest().size(), 32u);
  EXPECT_EQ(rig_.Job(id).digest_step(), 10u);
  EXPECT_EQ(rig_.Job(id).samples_repeated() + rig_.Job(id).samples_skipped(), 0u);
  EXPECT_TRUE(rig_.Job(id).has_ended_at());
  EXPECT_EQ(rig_.store.ReadSteps(id, 1, 100)->size(), 10u);
  // Everything is let go.
  EXPECT_TRUE(rig_.WorkersOf(id).empty());
  EXPECT_FALSE(rig_.shards.Holds("params-0", id));
  EXPECT_FALSE(rig_.view.epochs.contains(id));
  for (const v1::MemberStatus& member : rig_.view.members) EXPECT_EQ(member.state(), "IDLE");
}

TEST_F(SchedulerTest, AJobThatWantsMoreThanIsRegisteredIsRefused) {
  AddCluster(2, 1);
  const auto refused = rig_.Submit(rig_.Spec("big", 4, 10));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  ExpectContains(std::string(refused.status().message()), "wants 4 workers");
  ExpectContains(std::string(refused.status().message()), "2 are registered");
  v1::JobSpec spec = rig_.Spec("shards", 2, 10);
  spec.mutable_parallel()->set_shards(3);
  EXPECT_EQ(rig_.Submit(spec).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(rig_.view.jobs.empty());
  EXPECT_TRUE(rig_.store.LoadJobs()->empty());
}

TEST_F(SchedulerTest, RightAfterARestartASubmissionWaitsForMembersOnTheirWay) {
  AddCluster(1, 1);
  MustSubmit(rig_.Spec("first", 1, 10));
  rig_.Restart();
  rig_.Connect("worker-0");
  rig_.Connect("params-0");
  // Submit() lets time pass only when it isn't answered at once.
  const absl::Time before = rig_.clock.Monotonic();
  EXPECT_EQ(rig_.Submit(rig_.Spec("a", 2, 10)).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GE(rig_.clock.Monotonic() - before, kReturnTimeMax);
  const absl::Time later = rig_.clock.Monotonic();
  EXPECT_EQ(rig_.Submit(rig_.Spec("b", 2, 10)).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LT(rig_.clock.Monotonic() - later, absl::Seconds(1));
}

TEST_F(SchedulerTest, TheQueueIsFirstInFirstOutAndSaysWhy) {
  AddCluster(4, 1);
  const std::string first = MustSubmit(rig_.Spec("first", 3, 2));
  const std::string second = MustSubmit(rig_.Spec("second", 2, 2));
  const std::string third = MustSubmit(rig_.Spec("third", 1, 2));
  ExpectState(first, v1::JOB_STATE_RUNNING);
  ExpectState(second, v1::JOB_STATE_PENDING);
  EXPECT_EQ(rig_.Job(second).message(), "needs 2 workers: 3 of 4 registered are busy with job first");
  // A worker is free, but the second job is ahead.
  ExpectState(third, v1::JOB_STATE_PENDING);
  EXPECT_EQ(rig_.Job(third).message(), "needs 1 worker: job second is ahead in the queue");
  rig_.Train(first, 2);
  rig_.FinishJob(first);
  ExpectState(second, v1::JOB_STATE_RUNNING);
  ExpectState(third, v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerTest, AJobsWorkersAreOfOneKind) {
  AddCluster(4, 1);
  const auto make_gpu = [this](const std::string& id, const std::string& nccl) {
    v1::MemberInfo& info = rig_.member(id).info;
    info.set_device("cuda:0");
    info.mutable_device_info()->set_nccl(nccl);
    rig_.Disconnect(id);
    rig_.Connect(id);
  };
  make_gpu("worker-1", "2.28.9");
  make_gpu("worker-3", "2.27.5");
  rig_.Settle();
  const std::string mixed = MustSubmit(rig_.Spec("mixed", 3, 2));
  ExpectState(mixed, v1::JOB_STATE_PENDING);
  EXPECT_EQ(rig_.Job(mixed).message(),
            "needs 3 workers: all of one kind, and idle are 2 CPU, 1 CUDA with NCCL 2.28.9, 1 CUDA with NCCL 2.27.5");
  // It holds up nobody.
  const std::string cpus = MustSubmit(rig_.Spec("cpus", 2, 2));
  ExpectState(cpus, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.WorkersOf(cpus), (std::vector<std::string>{"worker-0", "worker-2"}));
  make_gpu("worker-3", "2.28.9");
  rig_.Settle();
  const std::string gpus = MustSubmit(rig_.Spec("gpus", 2, 2));
  ExpectState(gpus, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.WorkersOf(gpus), (std::vector<std::string>{"worker-1", "worker-3"}));
  // What a job was planned for is what it gets, others may be idle or not.
  rig_.Train(cpus, 2);
  rig_.FinishJob(cpus);
  v1::JobSpec more = rig_.Spec("more", 1, 2);
  more.mutable_parallel()->set_device(v1::ParallelSpec::DEVICE_CUDA);
  const std::string waiting = MustSubmit(more);
  ExpectState(waiting, v1::JOB_STATE_PENDING);
  rig_.Train(gpus, 2);
  rig_.FinishJob(gpus);
  ExpectState(waiting, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.WorkersOf(waiting), (std::vector<std::string>{"worker-1"}));
}

TEST_F(SchedulerTest, AWorkerWhoseProcessIsGoneIsReplacedBeforeItsLeaseEnds) {
  AddCluster(3, 1);
  const std::string id = MustSubmit(rig_.Spec("first", 2, 10));
  const std::string killed = rig_.WorkersOf(id)[1];
  int asked = 0;
  // The port outlives the connection by a moment.
  rig_.is_gone = [&asked](const std::string&) { return ++asked > 2; };
  const absl::Time before = rig_.clock.Monotonic();
  rig_.Kill(killed);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(rig_.Job(id).recoveries(), 0u);
  rig_.Pass(4 * kGoneQuestionPause);
  EXPECT_LT(rig_.clock.Monotonic() - before, Scheduler::Options().lease / 2);
  EXPECT_EQ(asked, 3);
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).recoveries(), 1u);
  EXPECT_NE(rig_.WorkersOf(id)[1], killed);
}

TEST_F(SchedulerTest, AWorkerThatComesBackIsNotAskedForAnyMore) {
  AddCluster(2, 1);
  const std::string id = MustSubmit(rig_.Spec("first", 2, 10));
  int asked = 0;
  rig_.is_gone = [&asked](const std::string&) { return ++asked < 0; };
  rig_.Disconnect("worker-0");
  rig_.Pass(2 * kGoneQuestionPause);
  EXPECT_GE(asked, 2);
  rig_.Connect("worker-0");
  const int asked_before = asked;
  rig_.Pass(absl::Seconds(5));
  EXPECT_EQ(asked, asked_before);
  EXPECT_EQ(rig_.Job(id).recoveries(), 0u);
}

TEST_F(SchedulerTest, AJobThatCannotRunForNowHoldsUpNobody) {
  AddCluster(3, 1);
  const std::string busy = MustSubmit(rig_.Spec("busy", 2, 2));
  const std::string big = MustSubmit(rig_.Spec("big", 3, 2));
  ExpectState(big, v1::JOB_STATE_PENDING);
  rig_.Kill("worker-2");
  rig_.Pass(absl::Seconds(3));
  rig_.Train(busy, 2);
  rig_.FinishJob(busy);
  const std::string small = MustSubmit(rig_.Spec("small", 2, 2));
  ExpectState(big, v1::JOB_STATE_PENDING);
  ExpectContains(rig_.Job(big).message(), "2 are registered");
  ExpectState(small, v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerTest, ANameIsTakenWhileItsJobLives) {
  AddCluster(1, 1);
  const std::string id = MustSubmit(rig_.Spec("name", 1, 2));
  EXPECT_EQ(rig_.Submit(rig_.Spec("name", 1, 2)).status().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(rig_.Cancel(id).ok());
  const std::string again = MustSubmit(rig_.Spec("name", 1, 2));
  ExpectState(again, v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerTest, TheSameSubmissionIsOneJob) {
  AddCluster(1, 1);
  const auto first = rig_.Submit(rig_.Spec("name", 1, 2), "request");
  const auto again = rig_.Submit(rig_.Spec("name", 1, 2), "request");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*first, *again);
  EXPECT_EQ(rig_.store.LoadJobs()->size(), 1u);
}

TEST_F(SchedulerTest, ACancelledJobLetsGoOfEverything) {
  AddCluster(2, 1);
  const std::string running = MustSubmit(rig_.Spec("running", 2, 10));
  const std::string waiting = MustSubmit(rig_.Spec("waiting", 2, 10));
  rig_.Train(running, 3);
  ASSERT_TRUE(rig_.Cancel(waiting).ok());
  ExpectState(waiting, v1::JOB_STATE_CANCELLED);
  ASSERT_TRUE(rig_.Cancel(running).ok());
  ExpectState(running, v1::JOB_STATE_CANCELLED);
  EXPECT_TRUE(rig_.WorkersOf(running).empty());
  EXPECT_FALSE(rig_.shards.Holds("params-0", running));
  EXPECT_EQ(rig_.Cancel(running).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(rig_.Cancel("nobody").code(), absl::StatusCode::kNotFound);
  // Its history stays.
  EXPECT_EQ(rig_.store.ReadSteps(running, 1, 10)->size(), 3u);
}

// --- Workers that fail. ---

TEST_F(SchedulerTest, ALostWorkerIsReplacedByASpareAndNothingIsLost) {
  AddCluster(3, 2);
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 4);
  rig_.member("worker-1").cursor.set_step(5);
  rig_.member("worker-1").cursor.set_instruction("Backward mb 3");
  rig_.Pass(absl::Milliseconds(250));
  rig_.Kill("worker-1");
  rig_.Pass(absl::Seconds(3));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.WorkersOf(id), (std::vector<std::string>{"worker-0", "worker-2"}));
  EXPECT_EQ(rig_.Job(id).epoch(), 2u);
  EXPECT_EQ(rig_.Job(id).recoveries(), 1u);
  ExpectContains(rig_.Events(id),
                 "worker-1 (stage 0, data 1) was lost at step 5 in Backward mb 3: connection closed; lease expired "
                 "after 2s");
  rig_.Train(id, 6);
  rig_.FinishJob(id);
  ExpectState(id, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 80u);
  EXPECT_EQ(rig_.Job(id).samples_repeated() + rig_.Job(id).samples_skipped(), 0u);
}

TEST_F(SchedulerTest, AStepThatWasPreparedEverywhereIsCompleted) {
  AddCluster(2, 2);
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 4);
  rig_.shards.PrepareStep(id, 1);
  rig_.Kill("worker-1");
  rig_.AddWorker("worker-1");
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 5u);
  ExpectContains(rig_.Events(id), "step 5 was prepared on every shard, and is completed");
  ExpectContains(rig_.Events(id), "another process took its place");
  EXPECT_EQ(rig_.store.ReadSteps(id, 5, 1)->size(), 1u);
  EXPECT_EQ(rig_.Job(id).samples_consumed(), 40u);
}

TEST_F(SchedulerTest, WithoutASpareTheJobWaitsAndSaysSo) {
  AddCluster(2, 1);
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 2);
  rig_.Kill("worker-1");
  rig_.Pass(absl::Seconds(3));
  ExpectState(id, v1::JOB_STATE_RECOVERING);
  ExpectContains(rig_.Job(id).message(), "worker-1 (stage 0, data 1) was lost");
  ExpectContains(rig_.Job(id).message(), "waiting for 1 more worker: 1 of 2 are registered");
  rig_.AddWorker("worker-7");
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 2u);
}

TEST_F(SchedulerTest, TheFirstFailureIsShownAndASuspectOutOfReachComesFirst) {
  AddCluster(2, 1);
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 2);
  rig_.Kill("worker-1");
  v1::MemberReport report;
  report.set_job_id(id);
  report.set_epoch(1);
  report.mutable_failed()->set_code(14);
  report.mutable_failed()->set_message("connection reset");
  report.mutable_failed()->set_suspect_worker_id("worker-1");
  rig_.Report("worker-0", report);
  ExpectState(id, v1::JOB_STATE_RECOVERING);
  ExpectContains(rig_.Job(id).message(),
                 "worker-1 (stage 0, data 1) is out of reach, says worker-0 (stage 0, data 0): UNAVAILABLE: connection "
                 "reset");
}

TEST_F(SchedulerTest, APermanentFailureEndsTheJobWithItsReason) {
  AddCluster(1, 1);
  const std::string id = MustSubmit(rig_.Spec("job", 1, 10));
  v1::MemberReport report;
  report.set_job_id(id);
  report.set_epoch(1);
  report.mutable_failed()->set_code(9);
  report.mutable_failed()->set_message("step 1: loss is not finite");
  report.mutable_failed()->set_permanent(true);
  rig_.Report("worker-0", report);
  ExpectState(id, v1::JOB_STATE_FAILED);
  ExpectContains(rig_.Job(id).message(), "loss is not finite");
  EXPECT_TRUE(rig_.WorkersOf(id).empty());
}

TEST_F(SchedulerTest, ReportsOfAnOldEpochChangeNothing) {
  AddCluster(3, 1);
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 2);
  rig_.Kill("worker-1");
  rig_.Pass(absl::Seconds(3));
  ASSERT_EQ(rig_.Job(id).epoch(), 2u);
  v1::MemberReport old;
  old.set_job_id(id);
  old.set_epoch(1);
  old.mutable_step()->set_step(3);
  old.mutable_step()->set_loss(99);
  rig_.Report("worker-0", old);
  old.mutable_failed()->set_permanent(true);
  rig_.Report("worker-0", old);
  old.mutable_finished();
  rig_.Report("worker-0", old);
  old.mutable_stopped();
  rig_.Report("worker-0", old);
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).step(), 2u);
  EXPECT_NE(rig_.Job(id).loss(), 99);
  EXPECT_EQ(rig_.store.ReadSteps(id, 3, 10)->size(), 0u);
}

TEST_F(SchedulerTest, AWorkerThatDoesNotStopIsTurnedOut) {
  AddCluster(3, 1);
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.member("worker-1").obedient = false;
  const uint64_t stream = rig_.member("worker-1").stream;
  rig_.Kill("worker-0");
  rig_.Pass(absl::Seconds(40));
  EXPECT_EQ(rig_.streams.ended[stream].code(), absl::StatusCode::kAborted);
  // One worker is left.
  ExpectState(id, v1::JOB_STATE_RECOVERING);
  rig_.AddWorker("worker-0");
  ExpectState(id, v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerTest, AnOlderJobTakesTheWaitingWorkersOfAYoungerOne) {
  AddCluster(4, 1);
  const std::string older = MustSubmit(rig_.Spec("older", 2, 10));
  const std::string younger = MustSubmit(rig_.Spec("younger", 2, 10));
  rig_.Kill("worker-3");
  rig_.Pass(absl::Seconds(3));
  ExpectState(younger, v1::JOB_STATE_RECOVERING);
  ExpectState(older, v1::JOB_STATE_RUNNING);
  rig_.Kill("worker-1");
  rig_.Pass(absl::Seconds(3));
  // worker-2 was held by the younger one, which waits for another.
  ExpectState(older, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.WorkersOf(older), (std::vector<std::string>{"worker-0", "worker-2"}));
  ExpectState(younger, v1::JOB_STATE_RECOVERING);
  ExpectContains(rig_.Job(younger).message(), "waiting for 2 more workers");
}

TEST_F(SchedulerTest, AWorkerThatRunsWhatNobodyWantsIsStopped) {
  AddCluster(1, 1);
  v1::RunningRank running;
  running.set_job_id("long-gone");
  running.set_epoch(7);
  rig_.AddWorker("worker-9");
  rig_.Disconnect("worker-9");
  rig_.member("worker-9").running = running;
  rig_.member("worker-9").obedient = false;
  rig_.Connect("worker-9");
  // It is of no use until it has stopped, and is told so again and again.
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  ExpectState(id, v1::JOB_STATE_PENDING);
  rig_.member("worker-9").obedient = true;
  rig_.Pass(kStrayStopInterval * 2);
  ExpectState(id, v1::JOB_STATE_RUNNING);
}

TEST_F(SchedulerTest, AStallIsExplainedOnce) {
  AddCluster(2, 1);
  const std::string id = MustSubmit(rig_.Spec("job", 2, 10));
  rig_.Train(id, 2);
  for (const char* worker : {"worker-0", "worker-1"}) rig_.member(worker).cursor.set_step(3);
  rig_.member("worker-0").cursor.set_instruction("ReduceGradients");
  rig_.member("worker-0").cursor.set_instruction_index(9);
  rig_.member("worker-1").cursor.set_instruction("Backward mb 2");
  rig_.Pass(absl::Seconds(30));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  ExpectContains(rig_.Job(id).message(), "worker-0 (stage 0, data 0) waits in ReduceGradients for worker-1");
  const std::string events = rig_.Events(id);
  ExpectContains(events, "no step was committed for 10s");
  EXPECT_EQ(events.find("no step was committed"), events.rfind("no step was committed"));
  rig_.Train(id, 1);
  EXPECT_EQ(rig_.Job(id).message(), "");
}

// --- Members' streams. ---

TEST_F(SchedulerTest, AMemberThatSaysNoHelloIsToldTo) {
  v1::MemberReport report;
  report.mutable_heartbeat();
  rig_.AddWorker("worker-0");
  const uint64_t stream = rig_.member("worker-0").stream;
  rig_.member("worker-0").stream = 77;
  rig_.Report("worker-0", report);
  EXPECT_EQ(rig_.streams.ended[77].code(), absl::StatusCode::kUnavailable);
  rig_.member("worker-0").stream = stream;
  v1::MemberReport hello;
  *hello.mutable_hello()->mutable_info() = rig_.member("worker-0").info;
  rig_.Report("worker-0", hello);
  EXPECT_EQ(rig_.streams.ended[stream].code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SchedulerTest, AProcessThatSleptProvesNothingByItsSilence) {
  AddCluster(1, 1);
  const std::string id = MustSubmit(rig_.Spec("job", 1, 10));
  // The coordinator itself is stopped for a minute; the worker's heartbeats wait in its sockets.
  rig_.clock.Advance(absl::Minutes(1));
  rig_.Settle();
  ExpectState(id, v1::JOB_STATE_RUNNING);
  rig_.Pass(absl::Seconds(5));
  ExpectState(id, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(rig_.Job(id).recoveries(), 0u);
}

}  // namespace
}  // namespace penstock
