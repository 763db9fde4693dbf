#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/gelu.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/residual.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(GeluReference, GradientMatchesFiniteDifferences) {
  const auto x = RandomValues(200, 1, 4.0);
  const auto dy = RandomValues(200, 2);
  const auto numerical = NumericalGradient([&](const auto& v) { return Dot(dy, reference::GeluForward(v)); }, x);
  EXPECT_LT(RelativeError(reference::GeluBackward(x, dy), numerical), kFiniteDifferenceTolerance);
}

class ElementwiseTest : public BackendTest {};

TEST_P(ElementwiseTest, GeluMatchesTheReference) {
  for (const int64_t size : {1, 15, 16, 17, 100003}) {
    const auto x = RandomValues(size, 1, 6.0);
    const auto dy = RandomValues(size, 2);
    const DeviceFloats x_(backend_.get(), ToFloats(x)), dx(backend_.get(), ToFloats(dy)), y(backend_.get(), size, kNan);
    const auto gelu = backend_->CreateGelu(size).value();
    ASSERT_TRUE(gelu->Forward(ContextFor(*gelu), x_.data(), y.data()).ok());
    ASSERT_TRUE(gelu->Backward(ContextFor(*gelu), x_.data(), dx.data(), dx.data()).ok());
    EXPECT_LT(RelativeError(y.Read(), reference::GeluForward(x)), 5e-7);
    EXPECT_LT(RelativeError(dx.Read(), reference::GeluBackward(x, dy)), 2e-6);
  }
}

TEST_P(ElementwiseTest, GeluOfHugeAndBrokenNumbers) {
  constexpr float kHuge = std::numeric_limits<float>::max();
  const DeviceFloats x(backend_.get(), {100.0F, -100.0F, kNan, kHuge, 1e6F});
  const DeviceFloats y(backend_.get(), 5, 0.0F);
  const auto gelu = backend_->CreateGelu(5).value();
  ASSERT_TRUE(gelu->Forward(ContextFor(*gelu), x.data(), y.data()).ok());
  const std::vector<float> values = y.Read();
  EXPECT_EQ(values[0], 100.0F);
  EXPECT_NEAR(values[1], 0.0F, 1e-30F);
  EXPECT_TRUE(std::isnan(values[2])) << "a NaN must show in the loss, not disappear";
  EXPECT_EQ(values[3], kHuge);
  EXPECT_EQ(values[4], 1e6F);
}

TEST_P(ElementwiseTest, ResidualAddMatchesTheReference) {
  for (const int64_t size : {1, 17, 100003}) {
    const auto a = RandomValues(size, 1);
    const auto b = RandomValues(size, 2);
    const DeviceFloats a_(backend_.get(), ToFloats(a)), b_(backend_.get(), ToFloats(b));
    const auto add = backend_->CreateResidualAdd(size).value();
    ASSERT_TRUE(add->Forward(ContextFor(*add), a_.data(), b_.data(), a_.data()).ok());
    EXPECT_LT(RelativeError(a_.Read(), reference::Add(a, b)), 1e-7);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ElementwiseTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
