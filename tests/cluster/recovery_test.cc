// Processes die by SIGKILL in the middle of a job: nothing is lost, nothing is repeated, no bit differs.
#include <signal.h>

#include <cstdlib>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

// The step at which a process dies: another one in each run, named in every failure message.
int RandomStep(int low, int high) {
  static std::mt19937 generator(std::random_device{}());
  return std::uniform_int_distribution<int>(low, high)(generator);
}

TinyJob LongJob(const std::string& name) {
  TinyJob job;
  job.name = name;
  job.pipeline = 2;
  job.data = 2;
  job.hidden = 64;
  job.steps = 60;
  return job;
}

bool ReachedStep(const Json& job, int step) { return job.value("step", 0) >= step; }

void ExpectNothingLost(const Json& job, const std::string& digest, int samples) {
  EXPECT_EQ(job.value("state", ""), "SUCCEEDED") << job.dump(1);
  EXPECT_EQ(job.value("digest", ""), digest);
  EXPECT_EQ(job.value("samples_consumed", -1), samples);
  EXPECT_EQ(job.value("samples_repeated", -1), 0);
  EXPECT_EQ(job.value("samples_skipped", -1), 0);
}

// The pid of a worker that runs the job, by its place in the pipeline and the data group.
int PidOfRank(const TestCluster& cluster, int stage, int data_rank) {
  for (const Json& worker : cluster.CtlJson({"worker", "list"})) {
    if (worker["stage"] == stage && worker["data_rank"] == data_rank) return worker["pid"];
  }
  return 0;
}

class RecoveryTest : public ::testing::Test {
 protected:
  void StartCluster(int workers) {
    auto cluster = TestCluster::Start({.workers = workers, .params = 2});
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    const TinyJob calm = LongJob("calm");
    const Json job = cluster_->RunJob("calm", calm.Text());
    digest_ = job.value("digest", "none");
    samples_ = calm.steps * calm.global_batch_size;
  }

  // Submits the job and waits until it has committed some step; which one, is said in the trace.
  void SubmitAndReach(const TinyJob& job, int step) {
    ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
    cluster_->WaitForJob(
        job.name, [&](const Json& status) { return ReachedStep(status, step); }, absl::Seconds(60));
  }

  std::unique_ptr<TestCluster> cluster_;
  std::string digest_;
  int samples_ = 0;
};

TEST_F(RecoveryTest, EveryRankKilledOnceWithSparesChangesNoBit) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(/*workers=*/8));
  for (int stage : {0, 1}) {
    for (int data_rank : {0, 1}) {
      const int step = RandomStep(3, 40);
      const TinyJob job = LongJob(absl::StrCat("killed-", stage, "-", data_rank));
      SCOPED_TRACE(absl::StrCat(job.name, " at step ", step));
      ASSERT_NO_FATAL_FAILURE(SubmitAndReach(job, step));
      const int pid = PidOfRank(*cluster_, stage, data_rank);
      ASSERT_GT(pid, 0);
      ASSERT_EQ(kill(pid, SIGKILL), 0);
      const Json ended = cluster_->WaitForEnd(job.name);
      ExpectNothingLost(ended, digest_, samples_);
      EXPECT_GE(ended.value("recoveries", 0), 1);
      EXPECT_EQ(cluster_->CtlJson({"job", "history", job.name}).size(), static_cast<size_t>(job.steps));
    }
  }
}

TEST_F(RecoveryTest, WithoutASpareTheJobWaitsSaysSoAndGoesOnWhenAWorkerComes) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(/*workers=*/4));
  const TinyJob job = LongJob("waits");
  ASSERT_NO_FATAL_FAILURE(SubmitAndReach(job, 5));
  ASSERT_EQ(kill(PidOfRank(*cluster_, 1, 1), SIGKILL), 0);
  const Json waiting = cluster_->WaitForJob(
      "waits",
      [](const Json& status) {
        return status["state"] == "RECOVERING" &&
               status["message"].get<std::string>().find("3 of 4") != std::string::npos;
      },
      absl::Seconds(30));
  EXPECT_THAT(waiting["message"].get<std::string>(), HasSubstr("3 of 4"));
  const absl::Status late = cluster_->AddWorker("late");
  ASSERT_TRUE(late.ok()) << late;
  ExpectNothingLost(cluster_->WaitForEnd("waits"), digest_, samples_);
}

TEST_F(RecoveryTest, CoordinatorKilledAndRestartedTakesTheJobUpAgain) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(/*workers=*/5));
  const int step = RandomStep(3, 30);
  const TinyJob job = LongJob("coordinator-killed");
  SCOPED_TRACE(absl::StrCat("at step ", step));
  ASSERT_NO_FATAL_FAILURE(SubmitAndReach(job, step));
  const int pid = cluster_->CoordinatorPid();
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  const Json ended = cluster_->WaitForEnd(job.name);
  EXPECT_NE(cluster_->CoordinatorPid(), pid);
  ExpectNothingLost(ended, digest_, samples_);
  EXPECT_EQ(cluster_->CtlJson({"job", "history", job.name}).size(), static_cast<size_t>(job.steps));
  // The jobs of before are still known.
  EXPECT_EQ(cluster_->CtlJson({"job", "show", "calm"})["digest"], digest_);
}

TEST_F(RecoveryTest, CoordinatorAndAWorkerKilledTogether) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(/*workers=*/5));
  const int step = RandomStep(3, 30);
  const TinyJob job = LongJob("both-killed");
  SCOPED_TRACE(absl::StrCat("at step ", step));
  ASSERT_NO_FATAL_FAILURE(SubmitAndReach(job, step));
  const int worker = PidOfRank(*cluster_, 0, 1);
  ASSERT_EQ(kill(cluster_->CoordinatorPid(), SIGKILL), 0);
  ASSERT_EQ(kill(worker, SIGKILL), 0);
  ExpectNothingLost(cluster_->WaitForEnd(job.name), digest_, samples_);
}

TEST_F(RecoveryTest, AShardThatLostItsMemoryIsFilledFromTheLastCheckpoint) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(/*workers=*/4));
  TinyJob job = LongJob("shard-killed");
  job.checkpoint = "{directory: checkpoints, every_steps: 10}";
  ASSERT_NO_FATAL_FAILURE(SubmitAndReach(job, 25));
  ASSERT_EQ(kill(cluster_->ParamsPid(1), SIGKILL), 0);
  // The history after the checkpoint is cut and made again: the ledger counts the committed history.
  ExpectNothingLost(cluster_->WaitForEnd(job.name), digest_, samples_);
}

}  // namespace
}  // namespace penstock
