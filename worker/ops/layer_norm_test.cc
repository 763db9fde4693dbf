#include "worker/ops/layer_norm.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kTolerance = 2e-6;

TEST(LayerNormReference, GradientsMatchFiniteDifferences) {
  const LayerNormShape shape = {.rows = 3, .width = 7};
  const auto x = RandomValues(shape.rows * shape.width, 1);
  const auto gamma = RandomValues(shape.width, 2);
  const auto beta = RandomValues(shape.width, 3);
  const auto dy = RandomValues(shape.rows * shape.width, 4);
  const auto g = reference::LayerNormBackward(shape, x, gamma, dy);
  const auto loss = [&](const auto& x_, const auto& gamma_, const auto& beta_) {
    return Dot(dy, reference::LayerNormForward(shape, x_, gamma_, beta_));
  };
  EXPECT_LT(RelativeError(g.x, NumericalGradient([&](const auto& v) { return loss(v, gamma, beta); }, x)),
            kFiniteDifferenceTolerance);
  EXPECT_LT(RelativeError(g.gamma, NumericalGradient([&](const auto& v) { return loss(x, v, beta); }, gamma)),
            kFiniteDifferenceTolerance);
  EXPECT_LT(RelativeError(g.beta, NumericalGradient([&](const auto& v) { return loss(x, gamma, v); }, beta)),
            kFiniteDifferenceTolerance);
}

class LayerNormTest : public BackendTest {};

TEST_P(LayerNormTest, MatchesTheReference) {
  for (const LayerNormShape shape :
       {LayerNormShape{.rows = 1, .width = 2}, LayerNormShape{.rows = 37, .width = 100},
        LayerNormShape{.rows = 70, .width = 257}, LayerNormShape{.rows = 9, .width = 64},
        LayerNormShape{.rows = 5, .width = 1000}, LayerNormShape{.rows = 7, .width = 1544},
        LayerNormShape{.rows = 3, .width = 4104}, LayerNormShape{.rows = 2, .width = 13'000},
        LayerNormShape{.rows = 2, .width = 16'400}}) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.width);
    const int64_t size = shape.rows * shape.width;
    // A mean far from 0: a variance computed as E[x²] - E[x]² would be lost. (Two values may be too close for that,
    // and a long row's sum has lost as many bits.)
    const double offset = shape.width > 2 && shape.width < 1000 ? 20 : 0;
    auto x = RandomValues(size, 1);
    for (double& value : x) value = static_cast<double>(static_cast<float>(value + offset));
    const auto gamma = RandomValues(shape.width, 2);
    const auto beta = RandomValues(shape.width, 3);
    const auto dy = RandomValues(size, 4);
    const auto already = RandomValues(size, 5);
    auto expected = reference::LayerNormBackward(shape, x, gamma, dy);
    expected.x = reference::Add(expected.x, already);
    for (double& value : expected.gamma) value += 0.5;
    for (double& value : expected.beta) value -= 0.5;

    Backend* const backend = backend_.get();
    const DeviceFloats x_(backend, ToFloats(x)), gamma_(backend, ToFloats(gamma)), beta_(backend, ToFloats(beta));
    const DeviceFloats dy_(backend, ToFloats(dy)), y(backend, size, kNan), mean(backend, shape.rows, kNan);
    const DeviceFloats rstd(backend, shape.rows, kNan), dx(backend, ToFloats(already));
    const DeviceFloats dgamma(backend, shape.width, 0.5F), dbeta(backend, shape.width, -0.5F);
    const auto norm = backend->CreateLayerNorm(shape).value();
    const OpContext context = ContextFor(*norm);
    ASSERT_TRUE(
        norm->Forward(context, x_.data(), gamma_.data(), beta_.data(), y.data(), mean.data(), rstd.data()).ok());
    ASSERT_TRUE(norm->Backward(context, x_.data(), gamma_.data(), mean.data(), rstd.data(), dy_.data(), dx.data(),
                               dgamma.data(), dbeta.data())
                    .ok());
    // The mean of 20 takes bits of the input away: an absolute error of 20 * 2^-24 in x - mean.
    EXPECT_LT(RelativeError(y.Read(), reference::LayerNormForward(shape, x, gamma, beta)), 10 * kTolerance);
    EXPECT_LT(RelativeError(dx.Read(), expected.x), 10 * kTolerance);
    EXPECT_LT(RelativeError(dgamma.Read(), expected.gamma), 10 * kTolerance);
    EXPECT_LT(RelativeError(dbeta.Read(), expected.beta), kTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LayerNormTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
