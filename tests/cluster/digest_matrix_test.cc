// For each class of jobs (data degree, tensor degree, ZeRO stage, precision) one digest, over cuts that between them
// combine pipeline, schedule, placement, mirror and shards with the death of every kind of process.
#include <signal.h>

#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

struct JobClass {
  int data;
  int tensor;
  int zero_stage;
  const char* precision;
  const char* training_more = "";
};

enum class Victim { kNobody, kFirstRank, kLastRank, kShard, kCoordinator };

struct Cut {
  int pipeline;
  const char* schedule;
  int shards;
  const char* zero_more;
  Victim victim;
};

constexpr char kMirror[] = ", placement: local, mirror_lag: 2";
constexpr char kPublished[] = ", placement: local, mirror: off";
// The victim dies at this step or little later, long before the last one.
constexpr int kKillStep = 6;

class DigestMatrixTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() { StartCluster({.workers = 8, .params = 3}); }

  static std::string NextName() {
    static int count = 0;
    return absl::StrCat("matrix-", count++);
  }

  static int PidOfRank(const TinyJob& job, Victim victim) {
    const bool last = victim == Victim::kLastRank;
    for (const Json& worker : cluster_->CtlJson({"worker", "list"})) {
      if (worker["job"] != job.name) continue;
      if (worker["stage"] == (last ? job.pipeline - 1 : 0) && worker["data_rank"] == (last ? job.data - 1 : 0) &&
          worker["tensor_rank"] == (last ? job.tensor - 1 : 0)) {
        return worker["pid"];
      }
    }
    return 0;
  }
  static int PidOf(const TinyJob& job, Victim victim) {
    if (victim == Victim::kCoordinator) return cluster_->CoordinatorPid();
    if (victim == Victim::kShard) return cluster_->ParamsPid(job.shards - 1);
    return PidOfRank(job, victim);
  }

  static void Kill(const TinyJob& job, Victim victim) {
    cluster_->WaitForJob(
        job.name, [](const Json& status) { return status.value("step", 0) >= kKillStep; }, absl::Seconds(60));
    const int pid = PidOf(job, victim);
    ASSERT_GT(pid, 0);
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    // The others come back by themselves.
    if (victim == Victim::kFirstRank || victim == Victim::kLastRank) {
      const absl::Status added = cluster_->AddWorker(absl::StrCat("after-", job.name));
      ASSERT_TRUE(added.ok()) << added;
    }
  }

  static void ExpectDigest(const TinyJob& job, Victim victim, const std::string& digest) {
    ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
    if (victim != Victim::kNobody) {
      ASSERT_NO_FATAL_FAILURE(Kill(job, victim));
    }
    const Json ended = cluster_->WaitForEnd(job.name);
    EXPECT_EQ(ended.value("state", ""), "SUCCEEDED") << ended.dump(1) << cluster_->LogTails();
    EXPECT_EQ(ended.value("digest", ""), digest);
    EXPECT_EQ(ended.value("digest_step", 0), job.steps);
    EXPECT_EQ(ended.value("samples_consumed", -1), job.steps * job.global_batch_size);
    EXPECT_EQ(ended.value("samples_repeated", -1), 0);
    EXPECT_EQ(ended.value("samples_skipped", -1), 0);
    // A coordinator that comes back in time finds the job running.
    if (victim != Victim::kNobody && victim != Victim::kCoordinator) {
      EXPECT_GE(ended.value("recoveries", 0), 1);
    }
    EXPECT_EQ(cluster_->CtlJson({"job", "history", job.name}).size(), static_cast<size_t>(job.steps));
  }

  // `cuts`: how many of them; of many processes on few cores each takes a while.
  static void CheckOneDigest(const JobClass& of, size_t cuts = 5) {
    TinyJob plain;
    plain.name = NextName();
    plain.data = of.data;
    plain.tensor = of.tensor;
    plain.zero_stage = of.zero_stage;
    plain.precision = of.precision;
    plain.training_more = of.training_more;
    plain.hidden = 64;
    plain.steps = 40;
    // A tensor group adds up in every layer of every micro-batch.
    if (of.tensor > 1) plain.micro_batch_size = 4;
    plain.shards = 1;
    const std::string digest = cluster_->RunJob(plain.name, plain.Text()).value("digest", "");
    ASSERT_EQ(digest.size(), 32u);
    const std::vector<Cut> all = {{2, "gpipe", 1, kMirror, Victim::kLastRank},
                                  {2, "1f1b", 3, kPublished, Victim::kFirstRank},
                                  {1, "1f1b", 2, kMirror, Victim::kShard},
                                  {2, "gpipe", 2, "", Victim::kLastRank},
                                  {1, "gpipe", 3, kPublished, Victim::kCoordinator}};
    for (const Cut& cut : std::span(all).first(cuts)) {
      TinyJob job = plain;
      job.name = NextName();
      job.pipeline = cut.pipeline;
      job.schedule = cut.schedule;
      job.shards = cut.shards;
      job.zero_more = cut.zero_more;
      job.checkpoint = "{directory: checkpoints, every_steps: 5}";
      SCOPED_TRACE(absl::StrCat(job.Text(), "victim ", static_cast<int>(cut.victim)));
      ExpectDigest(job, cut.victim, digest);
    }
  }
};

TEST_F(DigestMatrixTest, Data2Zero2) {
  CheckOneDigest({.data = 2, .tensor = 1, .zero_stage = 2, .precision = "fp32", .training_more = ", dropout: 0.1"});
}

TEST_F(DigestMatrixTest, Tensor2) { CheckOneDigest({.data = 1, .tensor = 2, .zero_stage = 1, .precision = "fp32"}); }

TEST_F(DigestMatrixTest, Data2Tensor2) {
  CheckOneDigest({.data = 2, .tensor = 2, .zero_stage = 1, .precision = "fp32"}, 2);
}

TEST_F(DigestMatrixTest, Data2Bf16) { CheckOneDigest({.data = 2, .tensor = 1, .zero_stage = 1, .precision = "bf16"}); }

TEST_F(DigestMatrixTest, Data2Tensor2Zero2Bf16) {
  CheckOneDigest({.data = 2, .tensor = 2, .zero_stage = 2, .precision = "bf16"}, 2);
}

}  // namespace
}  // namespace penstock
