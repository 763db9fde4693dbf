// Tensor parallelism on real processes: every mesh trains the same model, no bit depends on what may not matter, and a
// killed tensor rank is as harmless as any other.
#include <signal.h>

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "services/checkpoint/reader.h"
#include "services/storage/blobs.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

// A run's losses by step, its first gradient norm, and its final weights.
// Two samples in a micro-batch: half as many sums over the group, which two cores share among eight ranks.
TinyJob Job() {
  TinyJob job;
  job.micro_batch_size = 2;
  return job;
}

struct Trained {
  Json status;
  std::vector<double> losses;
  double first_norm = 0;
  std::unique_ptr<CheckpointReader> weights;
};

class TensorParallelTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() { StartCluster({.workers = 8, .params = 3}); }

  static std::string NextName() {
    static int count = 0;
    return absl::StrCat("tensor-", count++);
  }

  static std::string Digest(TinyJob job) {
    job.name = NextName();
    return cluster_->RunJob(job.name, job.Text()).value("digest", "none");
  }

  static Trained Train(TinyJob job) {
    job.name = NextName();
    job.checkpoint = "{directory: trained, every_steps: 20}";
    Trained trained;
    trained.status = cluster_->RunJob(job.name, job.Text());
    for (const Json& record : cluster_->CtlJson({"job", "history", job.name})) {
      if (trained.losses.empty()) trained.first_norm = record["gradient_norm"];
      trained.losses.push_back(record["loss"]);
    }
    auto reader = CheckpointReader::Open(LocalDisk(),
                                         absl::StrCat(cluster_->directory(), "/trained/", job.name, "/step-00000020"));
    EXPECT_TRUE(reader.ok()) << reader.status();
    if (reader.ok()) trained.weights = *std::move(reader);
    return trained;
  }

  static void ExpectSameTraining(const Trained& expected, const Trained& actual) {
    ASSERT_EQ(expected.losses.size(), 20u);
    ASSERT_EQ(actual.losses.size(), 20u);
    for (size_t i = 0; i < 20; ++i) EXPECT_NEAR(actual.losses[i], expected.losses[i], 1e-4) << "step " << i + 1;
    // Before the first update: what tensor ranks share counts once.
    EXPECT_NEAR(actual.first_norm, expected.first_norm, 1e-6 * expected.first_norm);
    ASSERT_TRUE(expected.weights != nullptr && actual.weights != nullptr);
    for (const Parameter& parameter : expected.weights->table().parameters()) ExpectNear(expected, actual, parameter);
  }

  // The norm of the difference against the norm. Key biases aside: softmax doesn't see them, so their true gradient is
  // zero and Adam makes weights of the rounding.
  static void ExpectNear(const Trained& expected, const Trained& actual, const Parameter& parameter) {
    std::vector<float> want(static_cast<size_t>(parameter.size()));
    std::vector<float> got(want.size());
    ASSERT_TRUE(expected.weights->ReadRange(StateClass::kWeights, parameter.range(), std::span(want)).ok());
    ASSERT_TRUE(actual.weights->ReadRange(StateClass::kWeights, parameter.range(), std::span(got)).ok());
    const bool qkv_bias = absl::EndsWith(absl::string_view(parameter.name), "attn.qkv.bias");
    const size_t head_dim = static_cast<size_t>(parameter.shape.back());
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      if (qkv_bias && i / head_dim % 3 == 1) continue;
      difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
      norm += std::pow(static_cast<double>(want[i]), 2);
    }
    EXPECT_LE(std::sqrt(difference), 1e-3 * std::sqrt(norm)) << parameter.name;
  }

  static Json RankOfJob(const std::string& job, int stage, int tensor_rank) {
    for (const Json& worker : cluster_->CtlJson({"worker", "list"})) {
      if (worker["job"] == job && worker["stage"] == stage && worker["tensor_rank"] == tensor_rank) return worker;
    }
    return {};
  }
};

TEST_F(TensorParallelTest, EveryMeshTrainsTheSameModel) {
  const Trained one = Train(Job());
  for (int pipeline : {1, 2}) {
    for (int data : {1, 2}) {
      for (int tensor : {1, 2}) {
        if (pipeline * data * tensor == 1) continue;
        SCOPED_TRACE(absl::StrCat("pipeline ", pipeline, ", data ", data, ", tensor ", tensor));
        TinyJob job = Job();
        job.pipeline = pipeline;
        job.data = data;
        job.tensor = tensor;
        const Trained other = Train(job);
        EXPECT_EQ(other.status["mesh"], (Json{{"pipeline", pipeline}, {"data", data}, {"tensor", tensor}}));
        EXPECT_EQ(other.status["samples_repeated"], 0);
        EXPECT_EQ(other.status["samples_skipped"], 0);
        ExpectSameTraining(one, other);
      }
    }
  }
}

TEST_F(TensorParallelTest, AVocabularyThatTheDegreeDoesNotDivideTrainsTheSame) {
  TinyJob job = Job();
  job.vocab_size = 257;
  const Trained one = Train(job);
  job.tensor = 2;
  ExpectSameTraining(one, Train(job));
  job.tensor = 4;
  job.pipeline = 2;
  ExpectSameTraining(one, Train(job));
}

TEST_F(TensorParallelTest, DigestIsEqualOverPipelineScheduleShardsAndZeroStage) {
  struct Cut {
    int pipeline;
    const char* schedule;
    int shards;
    int zero_stage;
  };
  for (int data : {1, 2}) {
    TinyJob plain = Job();
    plain.steps = 10;
    plain.tensor = 2;
    plain.data = data;
    plain.shards = 1;
    const std::string digest = Digest(plain);
    ASSERT_EQ(digest.size(), 32u);
    for (const Cut& cut :
         std::vector<Cut>{{1, "gpipe", 3, 1}, {2, "gpipe", 2, 1}, {2, "1f1b", 3, 0}, {4 / data, "1f1b", 1, 1}}) {
      TinyJob job = plain;
      job.pipeline = cut.pipeline;
      job.schedule = cut.schedule;
      job.shards = cut.shards;
      job.zero_stage = cut.zero_stage;
      SCOPED_TRACE(job.Text());
      EXPECT_EQ(Digest(job), digest);
    }
  }
}

TEST_F(TensorParallelTest, AKilledTensorRankChangesNoBit) {
  TinyJob job = Job();
  job.pipeline = 2;
  job.tensor = 2;
  job.hidden = 64;
  job.steps = 60;
  const std::string digest = Digest(job);
  job.name = "killed";
  ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
  const Json running = cluster_->WaitForJob(
      job.name, [](const Json& status) { return status.value("step", 0) >= 7; }, absl::Seconds(60));
  const Json victim = RankOfJob(job.name, /*stage=*/1, /*tensor_rank=*/1);
  ASSERT_FALSE(victim.is_null()) << running.dump(1);
  ASSERT_EQ(kill(victim["pid"].get<int>(), SIGKILL), 0);
  const Json ended = cluster_->WaitForEnd(job.name);
  EXPECT_EQ(ended["state"], "SUCCEEDED") << ended.dump(1);
  EXPECT_EQ(ended["digest"], digest);
  EXPECT_GE(ended.value("recoveries", 0), 1);
  EXPECT_EQ(ended["samples_consumed"], job.steps * job.global_batch_size);
  EXPECT_EQ(ended["samples_repeated"], 0);
  EXPECT_EQ(ended["samples_skipped"], 0);
}

}  // namespace
}  // namespace penstock
