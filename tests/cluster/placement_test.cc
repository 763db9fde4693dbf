// Jobs whose ranks update the weights themselves, and ZeRO 2: the digests of the parameter service's placement,
// whatever dies.
#include <signal.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

class PlacementTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() { StartCluster({.workers = 6, .params = 2}); }

  static TinyJob Job(int pipeline, const std::string& zero_more, int zero_stage = 1) {
    static int count = 0;
    TinyJob job;
    job.name = absl::StrCat("placed-", count++);
    job.data = 2;
    job.pipeline = pipeline;
    job.zero_stage = zero_stage;
    job.zero_more = zero_more;
    return job;
  }
  static TinyJob LongJob(const std::string& zero_more) {
    TinyJob job = Job(2, zero_more);
    job.hidden = 64;
    job.steps = 60;
    return job;
  }

  // Waits until some step is in the history, and kills what `pid` names then.
  static void SubmitAndKill(const TinyJob& job, int step, const std::function<int()>& pid) {
    ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
    cluster_->WaitForJob(
        job.name, [&](const Json& status) { return status.value("step", 0) >= step; }, absl::Seconds(60));
    ASSERT_EQ(kill(pid(), SIGKILL), 0);
  }
  static int PidOfRank(int stage, int data_rank) {
    for (const Json& worker : cluster_->CtlJson({"worker", "list"})) {
      if (worker["stage"] == stage && worker["data_rank"] == data_rank) return worker["pid"];
    }
    return 0;
  }
  static void ExpectNothingLost(const TinyJob& job, const std::string& digest) {
    const Json ended = cluster_->WaitForEnd(job.name);
    EXPECT_EQ(ended.value("state", ""), "SUCCEEDED") << ended.dump(1) << cluster_->LogTails();
    EXPECT_EQ(ended.value("digest", ""), digest);
    EXPECT_GE(ended.value("recoveries", 0), 1);
    EXPECT_EQ(ended.value("samples_consumed", -1), job.steps * job.global_batch_size);
    EXPECT_EQ(ended.value("samples_repeated", -1), 0);
    EXPECT_EQ(ended.value("samples_skipped", -1), 0);
    const Json history = cluster_->CtlJson({"job", "history", job.name});
    ASSERT_EQ(history.size(), static_cast<size_t>(job.steps));
    for (size_t i = 0; i < history.size(); ++i) EXPECT_EQ(history[i]["step"], i + 1);
  }
};

TEST_F(PlacementTest, TheDigestIsTheServicesInEveryPlacement) {
  for (const int zero_stage : {1, 2}) {
    TinyJob service = Job(1, "", zero_stage);
    service.training_more = ", digest_every_steps: 7";
    const Json reference = cluster_->RunJob(service.name, service.Text());
    ASSERT_EQ(reference.value("digest", "").size(), 32u);
    for (const char* zero_more :
         {", placement: local", ", placement: local, mirror_lag: 3", ", placement: local, mirror: off"}) {
      for (const int pipeline : {1, 2}) {
        SCOPED_TRACE(absl::StrCat("stage ", zero_stage, zero_more, ", pipeline ", pipeline));
        TinyJob job = Job(pipeline, zero_more, zero_stage);
        job.training_more = service.training_more;
        job.shards = pipeline;
        if (zero_stage == 2) job.schedule = "gpipe";
        const Json ended = cluster_->RunJob(job.name, job.Text());
        EXPECT_EQ(ended.value("digest", ""), reference["digest"]);
        EXPECT_EQ(ended.value("digest_step", 0), job.steps);
        EXPECT_EQ(cluster_->CtlJson({"job", "history", job.name}).size(), static_cast<size_t>(job.steps));
      }
    }
  }
}

TEST_F(PlacementTest, AKilledRankChangesNoBit) {
  const TinyJob calm = LongJob("");
  const std::string digest = cluster_->RunJob(calm.name, calm.Text()).value("digest", "none");

  const TinyJob mirrored = LongJob(", placement: local, mirror_lag: 2");
  ASSERT_NO_FATAL_FAILURE(SubmitAndKill(mirrored, 20, [] { return PidOfRank(0, 1); }));
  ExpectNothingLost(mirrored, digest);

  // The leader; the published version is a checkpoint's.
  TinyJob published = LongJob(", placement: local, mirror: off");
  published.checkpoint = "{directory: published, every_steps: 10}";
  ASSERT_NO_FATAL_FAILURE(SubmitAndKill(published, 25, [] { return PidOfRank(1, 0); }));
  ExpectNothingLost(published, digest);

  TinyJob shard = LongJob(", placement: local");
  shard.checkpoint = "{directory: shard-lost, every_steps: 10}";
  ASSERT_NO_FATAL_FAILURE(SubmitAndKill(shard, 25, [] { return cluster_->ParamsPid(1); }));
  ExpectNothingLost(shard, digest);
}

TEST_F(PlacementTest, WhatCannotBeCombinedIsSaidWithItsLine) {
  TinyJob job = Job(1, ", mirror: off");
  const CommandResult refused = cluster_->Submit(job.Text());
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_NE(refused.errors.find("parallel.zero.mirror"), std::string::npos) << refused.errors;
  EXPECT_NE(refused.errors.find("placement: local"), std::string::npos) << refused.errors;
}

}  // namespace
}  // namespace penstock
