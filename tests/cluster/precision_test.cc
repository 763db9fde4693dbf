// bf16 on real processes: it follows fp32's loss wherever the master weights are, and its bits don't show where.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

// Before the loss has begun to fall there is nothing to follow.
constexpr size_t kFirstSteps = 3;
constexpr double kTolerance = 0.02;

class PrecisionTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() { StartCluster({.workers = 4, .params = 2}); }

  // English text, until the loss has halved; at a rate at which training is stable. At 3e-3 it isn't: there PyTorch's
  // bf16 leaves its own fp32 by up to 18 % in 60 steps, and fp32 whose weights begin 2^-9 off leaves itself by 2 to 4 %
  // (at 1e-3: 0.1 and at most 1.3 %).
  static TinyJob RealJob() {
    TinyJob job;
    job.hidden = 64;
    job.steps = 60;
    job.global_batch_size = 8;
    job.micro_batch_size = 4;
    job.learning_rate = "1e-3";
    return job;
  }

  struct Trained {
    std::string digest;
    std::vector<double> losses;
  };
  static Trained Train(TinyJob job) {
    static int count = 0;
    job.name = absl::StrCat("precision-", count++);
    Trained trained;
    trained.digest = cluster_->RunJob(job.name, job.Text()).value("digest", "none");
    for (const Json& record : cluster_->CtlJson({"job", "history", job.name})) {
      trained.losses.push_back(record["loss"]);
    }
    return trained;
  }

  static void ExpectFollows(const Trained& exact, const Trained& rounded) {
    ASSERT_EQ(rounded.losses.size(), exact.losses.size());
    for (size_t i = kFirstSteps; i < exact.losses.size(); ++i) {
      EXPECT_NEAR(rounded.losses[i], exact.losses[i], kTolerance * exact.losses[i]) << "step " << i + 1;
    }
    EXPECT_NE(rounded.losses, exact.losses);
  }
};

TEST_F(PrecisionTest, Bf16FollowsFp32InEveryPlacementAndOnTensorRanks) {
  const Trained exact = Train(RealJob());
  ASSERT_EQ(exact.losses.size(), 60u);
  EXPECT_LT(exact.losses.back(), 0.6 * exact.losses.front()) << "it learns";
  struct Mesh {
    int data, tensor;
  };
  for (const Mesh& mesh : {Mesh{1, 1}, {2, 1}, {1, 2}}) {
    SCOPED_TRACE(absl::StrCat("data ", mesh.data, ", tensor ", mesh.tensor));
    TinyJob job = RealJob();
    job.precision = "bf16";
    job.data = mesh.data;
    job.tensor = mesh.tensor;
    const Trained service = Train(job);
    ExpectFollows(exact, service);
    job.pipeline = 2;
    job.zero_more = mesh.data == 2 ? ", placement: local, mirror: off" : ", placement: local";
    const Trained local = Train(job);
    EXPECT_EQ(local.digest, service.digest);
    EXPECT_EQ(local.losses, service.losses);
  }
}

}  // namespace
}  // namespace penstock
