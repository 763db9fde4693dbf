// Every operation in bf16 against the double reference on the same (bf16) inputs: what is left is the rounding of the
// outputs, half a unit of their eight bits, and where a result is used again inside (the attention's output in its
// gradient) a little more.
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr DataType kType = DataType::kBfloat16;
// Of values stored in bf16: at most 2^-8 of each, so of the largest.
constexpr double kRounded = 0x1.08p-8;
// Of parameters' gradients, which are fp32 sums of exact products.
constexpr double kSummed = 4e-6;

// As RandomValues, but exact in bf16.
std::vector<double> RandomNarrow(int64_t size, uint64_t seed, double scale = 1.0) {
  std::vector<double> values = RandomValues(size, seed, scale);
  for (double& value : values) value = static_cast<double>(ToFloat(ToBfloat16(static_cast<float>(value))));
  return values;
}

std::vector<double> Plus(std::vector<double> values, double start) {
  for (double& value : values) value += start;
  return values;
}

class Bfloat16Test : public BackendTest {
 protected:
  DeviceBfloats Device(const std::vector<double>& values) { return {backend_.get(), ToFloats(values)}; }
  DeviceBfloats Unwritten(int64_t size) { return {backend_.get(), size, std::numeric_limits<float>::quiet_NaN()}; }
  DeviceFloats Floats(int64_t size, float start) { return {backend_.get(), size, start}; }
};

TEST_P(Bfloat16Test, Linear) {
  for (const WeightLayout layout : {WeightLayout::kOutIn, WeightLayout::kInOut}) {
    for (const bool has_bias : {false, true}) {
      const LinearShape shape = {
          .rows = 65, .in = 100, .out = 131, .layout = layout, .has_bias = has_bias, .type = kType};
      const auto x = RandomNarrow(shape.rows * shape.in, 1), w = RandomNarrow(shape.in * shape.out, 2);
      const auto b = RandomNarrow(has_bias ? shape.out : 0, 3), dy = RandomNarrow(shape.rows * shape.out, 4);
      const auto expected = reference::LinearBackward(shape, x, w, dy);
      const auto x_ = Device(x), w_ = Device(w), b_ = Device(has_bias ? b : x), dy_ = Device(dy);
      const auto y = Unwritten(shape.rows * shape.out), dx = Unwritten(shape.rows * shape.in);
      const auto dw = Floats(shape.in * shape.out, 0.5F), db = Floats(shape.out, 0.5F);
      const auto linear = backend_->CreateLinear(shape).value();
      const OpContext context = ContextFor(*linear);
      ASSERT_TRUE(linear->Forward(context, x_.data(), w_.data(), has_bias ? b_.data() : nullptr, y.data()).ok());
      ASSERT_TRUE(linear->BackwardInput(context, dy_.data(), w_.data(), dx.data()).ok());
      float* const dbias = has_bias ? db.data() : nullptr;
      ASSERT_TRUE(linear->BackwardWeight(context, x_.data(), dy_.data(), dw.data(), dbias).ok());
      EXPECT_LT(RelativeError(y.Read(), reference::LinearForward(shape, x, w, b)), kRounded);
      EXPECT_LT(RelativeError(dx.Read(), expected.x), kRounded);
      EXPECT_LT(RelativeError(dw.Read(), Plus(expected.weight, 0.5)), kSummed);
      if (has_bias) {
        EXPECT_LT(RelativeError(db.Read(), Plus(expected.bias, 0.5)), kSummed);
      }
      ASSERT_TRUE(linear->BackwardWeight(context, x_.data(), dy_.data(), dw.data(), dbias, GradientMode::kWrite).ok());
      EXPECT_LT(RelativeError(dw.Read(), expected.weight), kSummed);
      if (shape.has_bias) {
        EXPECT_LT(RelativeError(db.Read(), expected.bias), kSummed);
      }
    }
  }
}

TEST_P(Bfloat16Test, LayerNorm) {
  const LayerNormShape shape = {.rows = 37, .width = 100, .type = kType};
  const int64_t size = shape.rows * shape.width;
  const auto a = RandomNarrow(size, 1), b = RandomNarrow(size, 6);
  const auto gamma = RandomNarrow(shape.width, 2), beta = RandomNarrow(shape.width, 3);
  const auto dy = RandomNarrow(size, 4), already = RandomNarrow(size, 5);
  const auto a_ = Device(a), b_ = Device(b), gamma_ = Device(gamma), beta_ = Device(beta), dy_ = Device(dy);
  const auto sum = Unwritten(size), y = Unwritten(size), again = Unwritten(size), dx = Device(already);
  const auto mean = Floats(shape.rows, 0), std = Floats(shape.rows, 0);
  const auto dgamma = Floats(shape.width, 0.5F), dbeta = Floats(shape.width, 0.5F);
  const auto norm = backend_->CreateLayerNorm(shape).value();
  ASSERT_TRUE(norm->ForwardOfSum(ContextFor(*norm), a_.data(), b_.data(), sum.data(), gamma_.data(), beta_.data(),
                                 y.data(), mean.data(), std.data())
                  .ok());
  EXPECT_LT(RelativeError(sum.Read(), reference::Add(a, b)), kRounded);
  std::vector<double> x;
  for (const float value : sum.Read()) x.push_back(static_cast<double>(value));
  EXPECT_LT(RelativeError(y.Read(), reference::LayerNormForward(shape, x, gamma, beta)), kRounded);
  ASSERT_TRUE(
      norm->Forward(ContextFor(*norm), sum.data(), gamma_.data(), beta_.data(), again.data(), mean.data(), std.data())
          .ok());
  EXPECT_EQ(again.Read(), y.Read()) << "joining the residual branch changes no bit of the norm";
  ASSERT_TRUE(norm->Backward(ContextFor(*norm), sum.data(), gamma_.data(), mean.data(), std.data(), dy_.data(),
                             dx.data(), dgamma.data(), dbeta.data())
                  .ok());
  const auto expected = reference::LayerNormBackward(shape, x, gamma, dy);
  EXPECT_LT(RelativeError(dx.Read(), reference::Add(expected.x, already)), kRounded);
  EXPECT_LT(RelativeError(dgamma.Read(), Plus(expected.gamma, 0.5)), kSummed);
  EXPECT_LT(RelativeError(dbeta.Read(), Plus(expected.beta, 0.5)), kSummed);
  ASSERT_TRUE(norm->Backward(ContextFor(*norm), sum.data(), gamma_.data(), mean.data(), std.data(), dy_.data(),
                             dx.data(), dgamma.data(), dbeta.data(), GradientMode::kWrite)
                  .ok());
  EXPECT_LT(RelativeError(dgamma.Read(), expected.gamma), kSummed);
  EXPECT_LT(RelativeError(dbeta.Read(), expected.beta), kSummed);
}

TEST_P(Bfloat16Test, Attention) {
  const AttentionShape shape = {.batch = 2, .seq_length = 131, .heads = 2, .head_dim = 20, .type = kType};
  const int64_t size = shape.batch * shape.seq_length * shape.heads * shape.head_dim;
  const auto qkv = RandomNarrow(3 * size, 1, 3.0), dout = RandomNarrow(size, 2);
  const auto qkv_ = Device(qkv), dout_ = Device(dout), out = Unwritten(size), dqkv = Unwritten(3 * size);
  const auto log_sum_exp = Floats(shape.batch * shape.heads * shape.seq_length, 0);
  const auto attention = backend_->CreateCausalAttention(shape).value();
  const OpContext context = ContextFor(*attention);
  ASSERT_TRUE(attention->Forward(context, qkv_.data(), out.data(), log_sum_exp.data()).ok());
  ASSERT_TRUE(
      attention->Backward(context, qkv_.data(), out.data(), log_sum_exp.data(), dout_.data(), dqkv.data()).ok());
  EXPECT_LT(RelativeError(out.Read(), reference::AttentionForward(shape, qkv)), kRounded);
  EXPECT_LT(RelativeError(dqkv.Read(), reference::AttentionBackward(shape, qkv, dout)), 2 * kRounded);
}

TEST_P(Bfloat16Test, GeluAndResidualAdd) {
  constexpr int64_t kSize = 40'003;
  const auto x = RandomNarrow(kSize, 1, 6.0), dy = RandomNarrow(kSize, 2);
  const auto x_ = Device(x), dx = Device(dy), y = Unwritten(kSize);
  const auto gelu = backend_->CreateGelu(kSize, kType).value();
  ASSERT_TRUE(gelu->Forward(ContextFor(*gelu), x_.data(), y.data()).ok());
  EXPECT_LT(RelativeError(y.Read(), reference::GeluForward(x)), kRounded);
  const auto add = backend_->CreateResidualAdd(kSize, kType).value();
  ASSERT_TRUE(add->Forward(ContextFor(*add), x_.data(), dx.data(), y.data()).ok());
  EXPECT_LT(RelativeError(y.Read(), reference::Add(x, dy)), kRounded);
  ASSERT_TRUE(gelu->Backward(ContextFor(*gelu), x_.data(), dx.data(), dx.data()).ok());
  EXPECT_LT(RelativeError(dx.Read(), reference::GeluBackward(x, dy)), kRounded);
}

TEST_P(Bfloat16Test, Embedding) {
  const EmbeddingShape shape = {.batch = 5, .seq_length = 33, .vocab_size = 7, .hidden = 100, .type = kType};
  const int64_t size = shape.batch * shape.seq_length * shape.hidden;
  const auto tokens = RandomTokens(shape.batch * shape.seq_length, shape.vocab_size, 1);
  const auto wte = RandomNarrow(shape.vocab_size * shape.hidden, 2);
  const auto wpe = RandomNarrow(shape.seq_length * shape.hidden, 3), dx = RandomNarrow(size, 4);
  const DeviceTokens tokens_(backend_.get(), tokens);
  const auto wte_ = Device(wte), wpe_ = Device(wpe), dx_ = Device(dx), x = Unwritten(size);
  const auto dwte = Floats(static_cast<int64_t>(wte.size()), 0.5F), dwpe = Floats(static_cast<int64_t>(wpe.size()), 0);
  const auto embedding = backend_->CreateEmbedding(shape).value();
  ASSERT_TRUE(embedding->Forward(ContextFor(*embedding), tokens_.data(), wte_.data(), wpe_.data(), x.data()).ok());
  ASSERT_TRUE(embedding->Backward(ContextFor(*embedding), tokens_.data(), dx_.data(), dwte.data(), dwpe.data()).ok());
  const auto expected = reference::EmbeddingBackward(shape, tokens, dx);
  EXPECT_LT(RelativeError(x.Read(), reference::EmbeddingForward(shape, tokens, wte, wpe)), kRounded);
  EXPECT_LT(RelativeError(dwte.Read(), Plus(expected.wte, 0.5)), kSummed);
  EXPECT_LT(RelativeError(dwpe.Read(), expected.wpe), kSummed);
}

INSTANTIATE_TEST_SUITE_P(Backends, Bfloat16Test, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
