// One long-lived cluster runs the same job on every mesh, schedule and number of shards, one after the other: the
// digest of the state must not show any of it.
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

class ParityMatrixTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() { StartCluster({.workers = 8, .params = 3}); }

  // Runs the job under a new name and returns its status.
  static Json Run(TinyJob job) {
    static int count = 0;
    job.name = absl::StrCat("matrix-", count++);
    Json status = cluster_->RunJob(job.name, job.Text());
    EXPECT_EQ(status.value("digest_step", 0), job.steps);
    return status;
  }

  // The losses of every step.
  static std::vector<double> Losses(const Json& status) {
    std::vector<double> losses;
    for (const Json& record : cluster_->CtlJson({"job", "history", status["name"]})) losses.push_back(record["loss"]);
    return losses;
  }

  static void CheckEveryCutGivesTheSameDigest(int data) {
    TinyJob plain;
    plain.data = data;
    plain.shards = 1;
    const Json reference = Run(plain);
    const std::string digest = reference["digest"];
    ASSERT_EQ(digest.size(), 32u);
    for (int pipeline : {1, 2, 4}) {
      for (const char* schedule : {"gpipe", "1f1b"}) {
        for (int shards : {1, 2, 3}) {
          TinyJob job = plain;
          job.pipeline = pipeline;
          job.schedule = schedule;
          job.shards = shards;
          SCOPED_TRACE(absl::StrCat("pipeline ", pipeline, ", ", schedule, ", shards ", shards, ", data ", data));
          EXPECT_EQ(Run(job).value("digest", ""), digest);
        }
      }
    }
  }

  // Stops half-way at a checkpoint, and goes on from it on another mesh and number of shards.
  static void CheckResumeGivesTheSameDigest(int data) {
    TinyJob plain;
    plain.data = data;
    const std::string digest = Run(plain).value("digest", "no digest");
    const std::string folder = absl::StrCat("resume-data-", data);
    struct Cut {
      int pipeline;
      const char* schedule;
      int shards;
    };
    for (auto [first, second] : std::vector<std::pair<Cut, Cut>>{
             {{1, "gpipe", 1}, {2, "1f1b", 2}}, {{4, "1f1b", 3}, {1, "1f1b", 1}}, {{2, "gpipe", 2}, {4, "gpipe", 3}}}) {
      static int count = 0;
      TinyJob job = plain;
      job.name = absl::StrCat("resume-", count++);
      job.checkpoint = absl::StrCat("{directory: ", folder, ", every_steps: 10}");
      job.pipeline = first.pipeline;
      job.schedule = first.schedule;
      job.shards = first.shards;
      // The same job, cancelled once the checkpoint of step 10 is complete.
      job.steps = plain.steps;
      ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
      cluster_->WaitForEnd(job.name);
      const std::string middle = absl::StrCat(cluster_->directory(), "/", folder, "/", job.name, "/step-00000010");
      const CommandResult verified = cluster_->Ctl({"checkpoint", "verify", middle});
      EXPECT_EQ(verified.exit_code, 0) << verified.errors;
      job.name = absl::StrCat("resumed-", count++);
      job.checkpoint = absl::StrCat("{directory: ", folder, ", resume: ", middle, "}");
      job.pipeline = second.pipeline;
      job.schedule = second.schedule;
      job.shards = second.shards;
      const Json resumed = cluster_->RunJob(job.name, job.Text());
      EXPECT_EQ(resumed.value("digest", ""), digest) << job.Text();
      EXPECT_EQ(resumed.value("samples_repeated", -1), 0);
      EXPECT_EQ(resumed.value("samples_skipped", -1), 0);
    }
  }
};

TEST_F(ParityMatrixTest, DigestIsEqualOverPipelineScheduleAndShardsForData1) { CheckEveryCutGivesTheSameDigest(1); }

TEST_F(ParityMatrixTest, DigestIsEqualOverPipelineScheduleAndShardsForData2) { CheckEveryCutGivesTheSameDigest(2); }

TEST_F(ParityMatrixTest, ResumedOnAnotherMeshTheDigestIsTheSameForData1) { CheckResumeGivesTheSameDigest(1); }

TEST_F(ParityMatrixTest, ResumedOnAnotherMeshTheDigestIsTheSameForData2) { CheckResumeGivesTheSameDigest(2); }

TEST_F(ParityMatrixTest, LossesOfData1AndData2AgreeAtEachStep) {
  TinyJob job;
  job.pipeline = 2;
  const std::vector<double> one = Losses(Run(job));
  job.data = 2;
  const std::vector<double> two = Losses(Run(job));
  job.zero_stage = 0;
  const std::vector<double> two_zero0 = Losses(Run(job));
  ASSERT_EQ(one.size(), 20u);
  ASSERT_EQ(two.size(), 20u);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_NEAR(one[i], two[i], 1e-4) << "step " << i + 1;
    EXPECT_NEAR(one[i], two_zero0[i], 1e-4) << "step " << i + 1;
  }
  // It learns: a loss near log(256) at first, clearly lower at the end.
  EXPECT_NEAR(one.front(), std::log(256.0), 0.3);
  EXPECT_LT(one.back(), one.front() - 0.5);
}

}  // namespace
}  // namespace penstock
