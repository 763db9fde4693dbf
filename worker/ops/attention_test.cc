#include "worker/ops/attention.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kTolerance = 5e-6;

int64_t OutSize(const AttentionShape& shape) { return shape.batch * shape.seq_length * shape.heads * shape.head_dim; }

TEST(AttentionReference, GradientMatchesFiniteDifferences) {
  const AttentionShape shape = {.batch = 2, .seq_length = 4, .heads = 2, .head_dim = 3};
  const auto qkv = RandomValues(3 * OutSize(shape), 1);
  const auto dout = RandomValues(OutSize(shape), 2);
  const auto numerical =
      NumericalGradient([&](const auto& v) { return Dot(dout, reference::AttentionForward(shape, v)); }, qkv);
  EXPECT_LT(RelativeError(reference::AttentionBackward(shape, qkv, dout), numerical), kFiniteDifferenceTolerance);
}

class AttentionTest : public BackendTest {
 protected:
  struct Outputs {
    std::vector<float> out, log_sum_exp, dqkv;
    friend bool operator==(const Outputs&, const Outputs&) = default;
  };

  Outputs Run(const AttentionShape& shape, const std::vector<double>& qkv, const std::vector<double>& dout) {
    Backend* const backend = backend_.get();
    const DeviceFloats qkv_(backend, ToFloats(qkv)), dout_(backend, ToFloats(dout));
    const DeviceFloats out(backend, OutSize(shape), kNan), dqkv(backend, 3 * OutSize(shape), kNan);
    const DeviceFloats log_sum_exp(backend, shape.batch * shape.heads * shape.seq_length, kNan);
    const auto attention = backend->CreateCausalAttention(shape).value();
    const OpContext context = ContextFor(*attention);
    EXPECT_TRUE(attention->Forward(context, qkv_.data(), out.data(), log_sum_exp.data()).ok());
    EXPECT_TRUE(
        attention->Backward(context, qkv_.data(), out.data(), log_sum_exp.data(), dout_.data(), dqkv.data()).ok());
    return {out.Read(), log_sum_exp.Read(), dqkv.Read()};
  }
};

TEST_P(AttentionTest, MatchesTheReference) {
  for (const AttentionShape& shape : {AttentionShape{.batch = 1, .seq_length = 1, .heads = 1, .head_dim = 1},
                                      AttentionShape{.batch = 2, .seq_length = 7, .heads = 3, .head_dim = 5},
                                      AttentionShape{.batch = 1, .seq_length = 64, .heads = 2, .head_dim = 16},
                                      AttentionShape{.batch = 3, .seq_length = 131, .heads = 2, .head_dim = 20}}) {
    SCOPED_TRACE(testing::Message() << shape.batch << ", " << shape.seq_length << ", " << shape.heads << ", "
                                    << shape.head_dim);
    // Scores of up to about 20: probabilities from flat to sharp.
    const auto qkv = RandomValues(3 * OutSize(shape), 1, 3.0);
    const auto dout = RandomValues(OutSize(shape), 2);
    const Outputs outputs = Run(shape, qkv, dout);
    EXPECT_LT(RelativeError(outputs.out, reference::AttentionForward(shape, qkv)), kTolerance);
    EXPECT_LT(RelativeError(outputs.dqkv, reference::AttentionBackward(shape, qkv, dout)), kTolerance);
  }
}

TEST_P(AttentionTest, LaterPositionsDontShow) {
  const AttentionShape shape = {.batch = 1, .seq_length = 100, .heads = 2, .head_dim = 8};
  const int64_t per_position = 3 * shape.heads * shape.head_dim;
  auto qkv = RandomValues(3 * OutSize(shape), 1);
  const auto dout = RandomValues(OutSize(shape), 2);
  const Outputs before = Run(shape, qkv, dout);
  constexpr int64_t kChanged = 70;
  for (int64_t i = kChanged * per_position; i < static_cast<int64_t>(qkv.size()); ++i) qkv[static_cast<size_t>(i)] += 1;
  const Outputs after = Run(shape, qkv, dout);
  const auto prefix = [&](const std::vector<float>& out) {
    return std::vector<float>(out.begin(), out.begin() + kChanged * shape.heads * shape.head_dim);
  };
  EXPECT_EQ(prefix(before.out), prefix(after.out));
  EXPECT_NE(before.out, after.out);
}

TEST_P(AttentionTest, TheThreadsDontShow) {
  const AttentionShape shape = {.batch = 3, .seq_length = 131, .heads = 3, .head_dim = 20};
  const auto qkv = RandomValues(3 * OutSize(shape), 1);
  const auto dout = RandomValues(OutSize(shape), 2);
  const Outputs mine = Run(shape, qkv, dout);
  backend_ = AllBackends().front().create().value();
  EXPECT_TRUE(Run(shape, qkv, dout) == mine);
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
