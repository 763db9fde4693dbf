#include "worker/ops/linear.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// fp32 sums of up to some hundred products.
constexpr double kTolerance = 2e-6;

std::vector<LinearShape> Shapes(std::vector<LinearShape> sizes) {
  std::vector<LinearShape> shapes;
  for (LinearShape shape : sizes) {
    for (const WeightLayout layout : {WeightLayout::kOutIn, WeightLayout::kInOut}) {
      for (const bool has_bias : {false, true}) {
        shape.layout = layout;
        shape.has_bias = has_bias;
        shapes.push_back(shape);
      }
    }
  }
  return shapes;
}

TEST(LinearReference, GradientsMatchFiniteDifferences) {
  for (const LinearShape& shape : Shapes({{.rows = 3, .in = 4, .out = 5}})) {
    const auto x = RandomValues(shape.rows * shape.in, 1);
    const auto w = RandomValues(shape.in * shape.out, 2);
    const auto b = RandomValues(shape.has_bias ? shape.out : 0, 3);
    const auto dy = RandomValues(shape.rows * shape.out, 4);
    const auto g = reference::LinearBackward(shape, x, w, dy);
    const auto loss = [&](const auto& x_, const auto& w_, const auto& b_) {
      return Dot(dy, reference::LinearForward(shape, x_, w_, b_));
    };
    EXPECT_LT(RelativeError(g.x, NumericalGradient([&](const auto& v) { return loss(v, w, b); }, x)),
              kFiniteDifferenceTolerance);
    EXPECT_LT(RelativeError(g.weight, NumericalGradient([&](const auto& v) { return loss(x, v, b); }, w)),
              kFiniteDifferenceTolerance);
    if (shape.has_bias) {
      EXPECT_LT(RelativeError(g.bias, NumericalGradient([&](const auto& v) { return loss(x, w, v); }, b)),
                kFiniteDifferenceTolerance);
    }
  }
}

class LinearTest : public BackendTest {
 protected:
  struct Outputs {
    std::vector<float> y, dx, dweight, dbias;
    friend bool operator==(const Outputs&, const Outputs&) = default;
  };

  // Gradients start at `start` and are added to.
  Outputs Run(const LinearShape& shape, float start) {
    const DeviceFloats x(backend_.get(), ToFloats(RandomValues(shape.rows * shape.in, 1)));
    const DeviceFloats w(backend_.get(), ToFloats(RandomValues(shape.in * shape.out, 2)));
    const DeviceFloats b(backend_.get(), ToFloats(RandomValues(shape.out, 3)));
    const DeviceFloats dy(backend_.get(), ToFloats(RandomValues(shape.rows * shape.out, 4)));
    const DeviceFloats y(backend_.get(), shape.rows * shape.out, kNan);
    const DeviceFloats dx(backend_.get(), shape.rows * shape.in, kNan);
    const DeviceFloats dw(backend_.get(), shape.in * shape.out, start);
    const DeviceFloats db(backend_.get(), shape.out, start);
    const auto linear = backend_->CreateLinear(shape).value();
    const OpContext context = ContextFor(*linear);
    EXPECT_TRUE(linear->Forward(context, x.data(), w.data(), shape.has_bias ? b.data() : nullptr, y.data()).ok());
    EXPECT_TRUE(linear->BackwardInput(context, dy.data(), w.data(), dx.data()).ok());
    EXPECT_TRUE(
        linear->BackwardWeight(context, x.data(), dy.data(), dw.data(), shape.has_bias ? db.data() : nullptr).ok());
    return {y.Read(), dx.Read(), dw.Read(), shape.has_bias ? db.Read() : std::vector<float>()};
  }

  // Memory holds numbers of the shape's type.
  template <typename Memory>
  void CheckGelu(LinearShape shape, double tolerance) {
    const auto rounded = [&](std::vector<double> values) {
      if (shape.type == DataType::kFloat32) return values;
      for (double& value : values) value = static_cast<double>(ToFloat(ToBfloat16(static_cast<float>(value))));
      return values;
    };
    Backend* const backend = backend_.get();
    const auto x = rounded(RandomValues(shape.rows * shape.in, 1)), w = rounded(RandomValues(shape.in * shape.out, 2));
    const auto b = rounded(RandomValues(shape.has_bias ? shape.out : 0, 3));
    const auto dy = rounded(RandomValues(shape.rows * shape.out, 4));
    const auto before = rounded(RandomValues(shape.rows * shape.in, 5, 2.0));
    const Memory x_(backend, ToFloats(x)), w_(backend, ToFloats(w)), dy_(backend, ToFloats(dy));
    const Memory b_(backend, ToFloats(rounded(RandomValues(shape.out, 3)))), before_(backend, ToFloats(before));
    const Memory inner(backend, std::vector<float>(static_cast<size_t>(shape.rows * shape.out), kNan));
    const Memory y(backend, std::vector<float>(static_cast<size_t>(shape.rows * shape.out), kNan));
    const Memory dinner(backend, std::vector<float>(static_cast<size_t>(shape.rows * shape.in), kNan));

    shape.gelu = WithGelu::kBehind;
    const auto behind = backend->CreateLinear(shape).value();
    ASSERT_TRUE(behind
                    ->ForwardGelu(ContextFor(*behind), x_.data(), w_.data(), shape.has_bias ? b_.data() : nullptr,
                                  inner.data(), y.data())
                    .ok());
    const auto product = reference::LinearForward(shape, x, w, b);
    EXPECT_LT(RelativeError(inner.Read(), product), tolerance);
    EXPECT_LT(RelativeError(y.Read(), reference::GeluForward(product)), tolerance);

    shape.gelu = WithGelu::kBefore;
    const auto ahead = backend->CreateLinear(shape).value();
    ASSERT_TRUE(
        ahead->BackwardInputGelu(ContextFor(*ahead), dy_.data(), w_.data(), before_.data(), dinner.data()).ok());
    const auto dx = reference::LinearBackward(shape, x, w, dy).x;
    EXPECT_LT(RelativeError(dinner.Read(), reference::GeluBackward(before, dx)), tolerance);
  }
};

TEST_P(LinearTest, AddsToItsProduct) {
  for (const LinearShape& shape : Shapes({{.rows = 7, .in = 13, .out = 9}, {.rows = 33, .in = 40, .out = 64}})) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.in << " x " << shape.out);
    const auto x = RandomValues(shape.rows * shape.in, 1), w = RandomValues(shape.in * shape.out, 2);
    const auto b = RandomValues(shape.out, 3), addend = RandomValues(shape.rows * shape.out, 4);
    const DeviceFloats x_(backend_.get(), ToFloats(x)), w_(backend_.get(), ToFloats(w)),
        b_(backend_.get(), ToFloats(b));
    const DeviceFloats addend_(backend_.get(), ToFloats(addend)), y(backend_.get(), shape.rows * shape.out, kNan);
    const auto linear = backend_->CreateLinear(shape).value();
    ASSERT_TRUE(linear
                    ->ForwardAdd(ContextFor(*linear), x_.data(), w_.data(), shape.has_bias ? b_.data() : nullptr,
                                 addend_.data(), y.data())
                    .ok());
    const auto product = reference::LinearForward(shape, x, w, shape.has_bias ? b : reference::Values());
    EXPECT_LT(RelativeError(y.Read(), reference::Add(product, addend)), kTolerance);
    EXPECT_EQ(addend_.Read(), ToFloats(addend));
  }
}

TEST_P(LinearTest, MatchesTheReference) {
  for (const LinearShape& shape : Shapes({{.rows = 1, .in = 1, .out = 1},
                                          {.rows = 7, .in = 13, .out = 9},
                                          {.rows = 65, .in = 100, .out = 131},
                                          {.rows = 129, .in = 64, .out = 257}})) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.in << " x " << shape.out);
    const auto x = RandomValues(shape.rows * shape.in, 1);
    const auto w = RandomValues(shape.in * shape.out, 2);
    const auto b = RandomValues(shape.out, 3);
    const auto dy = RandomValues(shape.rows * shape.out, 4);
    auto g = reference::LinearBackward(shape, x, w, dy);
    for (double& value : g.weight) value += 0.5;
    for (double& value : g.bias) value += 0.5;

    const Outputs outputs = Run(shape, 0.5F);
    EXPECT_LT(RelativeError(outputs.y, reference::LinearForward(shape, x, w, shape.has_bias ? b : reference::Values())),
              kTolerance);
    EXPECT_LT(RelativeError(outputs.dx, g.x), kTolerance);
    EXPECT_LT(RelativeError(outputs.dweight, g.weight), kTolerance);
    if (shape.has_bias) {
      EXPECT_LT(RelativeError(outputs.dbias, g.bias), kTolerance);
    }
  }
}

// GELU as a part of the products, where a device has that, and beside them, where it hasn't.
TEST_P(LinearTest, GeluBehindAndBeforeMatchTheReference) {
  for (const DataType type : {DataType::kFloat32, DataType::kBfloat16}) {
    for (LinearShape shape : Shapes({{.rows = 7, .in = 13, .out = 9}, {.rows = 33, .in = 40, .out = 64}})) {
      shape.type = type;
      SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.in << " x " << shape.out << " in "
                                      << DataTypeName(type));
      if (type == DataType::kFloat32) {
        CheckGelu<DeviceFloats>(shape, kTolerance);
      } else {
        CheckGelu<DeviceBfloats>(shape, 0x1p-7);
      }
    }
  }
}

TEST_P(LinearTest, TheSameBitsEachTime) {
  const LinearShape shape = {.rows = 129, .in = 100, .out = 257, .layout = WeightLayout::kOutIn, .has_bias = true};
  const Outputs once = Run(shape, 0.0F);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Run(shape, 0.0F) == once);
}

TEST_P(LinearTest, RefusesShapesThatCannotBe) {
  const auto linear = backend_->CreateLinear({.rows = 3, .in = 0, .out = 5});
  ASSERT_EQ(linear.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(linear.status().message(), "linear: in is 0; it must be positive");
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
