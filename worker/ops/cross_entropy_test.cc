#include "worker/ops/cross_entropy.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr double kTolerance = 1e-6;

TEST(CrossEntropyReference, GradientMatchesFiniteDifferences) {
  const CrossEntropyShape shape = {.rows = 4, .vocab_size = 5};
  const auto logits = RandomValues(20, 1, 3.0);
  const std::vector<int32_t> targets = {0, 4, kIgnoredTarget, 2};
  const auto numerical =
      NumericalGradient([&](const auto& v) { return reference::CrossEntropyForward(shape, v, targets); }, logits);
  EXPECT_LT(RelativeError(reference::CrossEntropyBackward(shape, logits, targets), numerical),
            kFiniteDifferenceTolerance);
}

class CrossEntropyTest : public BackendTest {};

TEST_P(CrossEntropyTest, MatchesTheReference) {
  for (const CrossEntropyShape shape :
       {CrossEntropyShape{.rows = 1, .vocab_size = 1}, CrossEntropyShape{.rows = 3, .vocab_size = 7},
        CrossEntropyShape{.rows = 33, .vocab_size = 256}, CrossEntropyShape{.rows = 65, .vocab_size = 5003}}) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.vocab_size);
    auto values = RandomValues(shape.rows * shape.vocab_size, 1, 8.0);
    // Far from zero as a whole: the maximum has to be taken out.
    for (double& value : values) value = static_cast<double>(static_cast<float>(value + 100));
    auto targets = RandomTokens(shape.rows, shape.vocab_size, 2);
    if (shape.rows > 10) targets[7] = kIgnoredTarget;
    const double expected = reference::CrossEntropyForward(shape, values, targets);

    const DeviceFloats logits(backend_.get(), ToFloats(values));
    const DeviceTokens targets_(backend_.get(), targets);
    const auto loss = backend_->CreateCrossEntropy(shape).value();
    const OpContext context = ContextFor(*loss);
    const auto forward = loss->Forward(context, logits.data(), targets_.data());
    ASSERT_TRUE(forward.ok()) << forward.status();
    EXPECT_EQ(logits.Read(), ToFloats(values)) << "Forward must leave the logits";
    const auto both = loss->ForwardBackward(context, logits.data(), targets_.data());
    ASSERT_TRUE(both.ok()) << both.status();
    EXPECT_NEAR(both->loss, expected, kTolerance * (1 + std::abs(expected)));
    EXPECT_EQ(both->loss, forward->loss);
    EXPECT_EQ(both->target_count, shape.rows > 10 ? shape.rows - 1 : shape.rows);
    EXPECT_EQ(forward->target_count, both->target_count);
    EXPECT_LT(RelativeError(logits.Read(), reference::CrossEntropyBackward(shape, values, targets)), 2 * kTolerance);
  }
}

TEST_P(CrossEntropyTest, BrokenLogitsShowInTheLoss) {
  const auto loss = backend_->CreateCrossEntropy({.rows = 1, .vocab_size = 20}).value();
  const DeviceTokens target(backend_.get(), {0});
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const size_t at : {size_t{3}, size_t{18}}) {
      std::vector<float> values(20, 0.0F);
      values[at] = broken;
      const DeviceFloats logits(backend_.get(), values);
      EXPECT_FALSE(std::isfinite(loss->Forward(ContextFor(*loss), logits.data(), target.data())->loss));
    }
  }
}

TEST_P(CrossEntropyTest, NamesATargetOutsideTheVocabulary) {
  const auto loss = backend_->CreateCrossEntropy({.rows = 2, .vocab_size = 3}).value();
  const DeviceFloats logits(backend_.get(), 6, 0.0F);
  for (const int32_t bad : {3, -2}) {
    const DeviceTokens targets(backend_.get(), {0, bad});
    const auto result = loss->Forward(ContextFor(*loss), logits.data(), targets.data());
    ASSERT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(result.status().message(),
              "target " + std::to_string(bad) + " of row 1 is outside the vocabulary: expected 0 to 2, or -1 for none");
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, CrossEntropyTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
