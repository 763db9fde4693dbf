#include "core/commit/decision.h"

#include <cmath>
#include <limits>

#include "core/commit/test_steps.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr uint64_t kSteps = 100;

TEST(DecideTest, ComputesNormScaleAndBiasCorrections) {
  // Sum of squares 36 * 1024 and 32 targets: the mean gradient's norm is 6 * 32 / 32 = 6; clipped to 1.5.
  const auto decision =
      Decide(TestOptimizer(1.5), kSteps, {TestPrepared(3, {20 * 1024.0, 10 * 1024.0}), TestPrepared(3, {6 * 1024.0})});
  ASSERT_TRUE(decision.ok()) << decision.status();
  EXPECT_EQ(decision->step(), 3u);
  EXPECT_DOUBLE_EQ(decision->gradient_norm(), 6.0);
  EXPECT_FLOAT_EQ(decision->gradient_scale(), static_cast<float>(1.5 / (6.0 + 1e-6) / 32.0));
  EXPECT_FLOAT_EQ(decision->learning_rate(), 0.01f);
  EXPECT_EQ(decision->bias_correction1(), static_cast<float>(1.0 / (1.0 - 0.9 * 0.9 * 0.9)));
  EXPECT_EQ(decision->bias_correction2(), static_cast<float>(1.0 / (1.0 - 0.95 * 0.95 * 0.95)));
  EXPECT_TRUE(SameInputs(decision->inputs(), TestInputs(3)));
}

TEST(DecideTest, SmallNormsAndNoClippingLeaveTheMeanGradient) {
  const auto small = Decide(TestOptimizer(1.0), kSteps, {TestPrepared(1, {0.25 * 1024.0})});
  ASSERT_TRUE(small.ok());
  EXPECT_DOUBLE_EQ(small->gradient_norm(), 0.5);
  EXPECT_EQ(small->gradient_scale(), 1.0f / 32);
  const auto unclipped = Decide(TestOptimizer(0.0), kSteps, {TestPrepared(1, {1e12})});
  ASSERT_TRUE(unclipped.ok());
  EXPECT_EQ(unclipped->gradient_scale(), 1.0f / 32);
  const auto zero = Decide(TestOptimizer(1.0), kSteps, {TestPrepared(1, {0.0})});
  ASSERT_TRUE(zero.ok());
  EXPECT_EQ(zero->gradient_norm(), 0.0);
}

// Sums that don't associate: any grouping by shards must give the bits of the one running sum.
TEST(DecideTest, TheNumberOfShardsDoesNotShow) {
  const std::vector<double> pieces = {1e16, 1.0, 3.0, 1e-3, 7e15, 0.1, 0.2, 0.3};
  const auto whole = Decide(TestOptimizer(), kSteps, {TestPrepared(2, pieces)});
  ASSERT_TRUE(whole.ok());
  for (size_t first = 0; first <= pieces.size(); ++first) {
    for (size_t second = first; second <= pieces.size(); ++second) {
      const auto cut = Decide(TestOptimizer(), kSteps,
                              {TestPrepared(2, {pieces.begin(), pieces.begin() + first}),
                               TestPrepared(2, {pieces.begin() + first, pieces.begin() + second}),
                               TestPrepared(2, {pieces.begin() + second, pieces.end()})});
      ASSERT_TRUE(cut.ok());
      EXPECT_TRUE(SameDecision(*whole, *cut)) << first << " " << second;
    }
  }
}

TEST(DecideTest, ANormThatIsNotFiniteIsNeverCommitted) {
  for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const auto decision = Decide(TestOptimizer(), kSteps, {TestPrepared(7, {1.0}), TestPrepared(7, {bad})});
    EXPECT_EQ(decision.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(decision.status().message(), "step 7: gradient norm is not finite");
  }
  // Finite pieces whose sum overflows.
  EXPECT_EQ(Decide(TestOptimizer(), kSteps, {TestPrepared(7, {1.7e308, 1.7e308})}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  v1::PreparedStep bad_loss = TestPrepared(7, {1.0});
  bad_loss.mutable_inputs()->set_loss_sum(std::nan(""));
  EXPECT_EQ(Decide(TestOptimizer(), kSteps, {bad_loss}).status().message(), "step 7: loss is not finite");
}

TEST(DecideTest, ShardsThatDisagreeAreNamed) {
  v1::PreparedStep other = TestPrepared(4, {1.0});
  other.mutable_inputs()->set_target_count(33);
  const auto inputs = Decide(TestOptimizer(), kSteps, {TestPrepared(4, {1.0}), TestPrepared(4, {1.0}), other});
  EXPECT_EQ(inputs.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(inputs.status().message(), "step 4: shard 2 prepared it with other inputs than shard 0");
  EXPECT_EQ(Decide(TestOptimizer(), kSteps, {TestPrepared(4, {1.0}), TestPrepared(5, {1.0})}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Decide(TestOptimizer(), kSteps, {}).status().code(), absl::StatusCode::kInvalidArgument);
  v1::PreparedStep no_targets = TestPrepared(4, {1.0});
  no_targets.mutable_inputs()->set_target_count(0);
  EXPECT_EQ(Decide(TestOptimizer(), kSteps, {no_targets}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MakeRecordTest, HoldsWhatWasCommitted) {
  const auto decision = Decide(TestOptimizer(), kSteps, {TestPrepared(5, {1024.0})});
  ASSERT_TRUE(decision.ok());
  const v1::StepRecord record = MakeRecord(*decision, 9);
  EXPECT_EQ(record.step(), 5u);
  EXPECT_EQ(record.epoch(), 9u);
  EXPECT_DOUBLE_EQ(record.loss(), 105.0 / 32);
  EXPECT_DOUBLE_EQ(record.gradient_norm(), 1.0);
  EXPECT_EQ(record.tokens(), 32u);
  ASSERT_EQ(record.samples_size(), 1);
  EXPECT_EQ(record.samples(0).begin(), 32u);
  EXPECT_EQ(record.samples(0).end(), 40u);
  EXPECT_FALSE(record.has_validation_loss());
}

}  // namespace
}  // namespace penstock
