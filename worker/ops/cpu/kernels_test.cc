#include "worker/ops/cpu/kernels.h"

#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "worker/ops/testing/numeric.h"

namespace penstock::cpu {
namespace {

template <typename T>
std::vector<T> Values(int64_t size, uint64_t seed, double scale) {
  std::vector<T> values;
  for (const double value : RandomValues(size, seed, scale)) {
    if constexpr (sizeof(T) == 2) {
      values.push_back(ToBfloat16(static_cast<float>(value)));
    } else {
      values.push_back(static_cast<T>(value));
    }
  }
  return values;
}

template <typename T>
std::vector<std::byte> BytesOf(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Every kernel's outputs, one after the other.
template <typename T>
std::vector<std::vector<std::byte>> RunAll(VectorIsa isa) {
  constexpr int64_t kRows = 5, kWidth = 77;
  const Kernels<T>& kernels = KernelsFor<T>(isa);
  const auto x = Values<T>(kRows * kWidth, 1, 4), y = Values<T>(kRows * kWidth, 2, 4), gamma = Values<T>(kWidth, 3, 1);
  std::vector<std::vector<std::byte>> all;
  std::vector<T> out(x.size());
  kernels.add(x.data(), y.data(), out.data(), kRows * kWidth);
  all.push_back(BytesOf(out));
  kernels.gelu_forward(x.data(), out.data(), kRows * kWidth);
  all.push_back(BytesOf(out));
  kernels.gelu_backward(x.data(), y.data(), out.data(), kRows * kWidth);
  all.push_back(BytesOf(out));

  kernels.dropout(DropoutRuleOf(0.3, 5), 9, 2, 3, x.data(), out.data(), kRows * kWidth);
  all.push_back(BytesOf(out));

  std::vector<float> sums(kWidth, 0.5F), more(kWidth, 0.25F), mean(kRows), std(kRows);
  kernels.accumulate(x.data(), sums.data(), kWidth);
  kernels.column_sums(x.data(), kRows, kWidth, 3, kWidth, sums.data());
  all.push_back(BytesOf(sums));
  for (int64_t row = 0; row < kRows; ++row) {
    const int64_t at = row * kWidth;
    kernels.layer_norm_forward(x.data() + at, gamma.data(), gamma.data(), kWidth, 1e-5F, out.data() + at, &mean[row],
                               &std[row]);
  }
  all.push_back(BytesOf(out));
  for (int64_t row = 0; row < kRows; ++row) {
    const int64_t at = row * kWidth;
    kernels.layer_norm_backward(x.data() + at, gamma.data(), mean[row], std[row], y.data() + at, kWidth,
                                out.data() + at);
  }
  all.push_back(BytesOf(out));
  kernels.layer_norm_columns(x.data(), y.data(), mean.data(), std.data(), kRows, kWidth, 0, kWidth, sums.data(),
                             more.data());
  all.push_back(BytesOf(sums));
  all.push_back(BytesOf(more));

  const auto scores = Values<float>(kRows * kWidth, 4, 30);
  float maximum = -std::numeric_limits<float>::infinity(), sum = 0;
  kernels.softmax_statistics(scores.data(), 50, &maximum, &sum);
  kernels.softmax_statistics(scores.data() + 50, kRows * kWidth - 50, &maximum, &sum);
  kernels.softmax_gradient(scores.data(), kRows * kWidth, maximum, 1.0F / sum, out.data());
  all.push_back(BytesOf(out));
  all.push_back(BytesOf(std::vector<float>{maximum, sum}));

  const HeadShape head = {.seq_length = 75, .dim = 20, .scale = 0.3F};
  const int64_t stride = 23;
  const auto q = Values<T>(head.seq_length * stride, 5, 2), k = Values<T>(head.seq_length * stride, 6, 2);
  std::vector<T> attended(q.size()), dq(q.size()), dk(q.size()), dv(q.size());
  std::vector<float> log_sum_exp(static_cast<size_t>(head.seq_length));
  std::vector<float> scratch(static_cast<size_t>(head.scratch_elements()));
  kernels.attention_forward(head, {q.data(), stride}, {k.data(), stride}, {q.data(), stride}, {attended.data(), stride},
                            log_sum_exp.data(), scratch.data());
  kernels.attention_backward(head, {q.data(), stride}, {k.data(), stride}, {q.data(), stride},
                             {attended.data(), stride}, {k.data(), stride}, log_sum_exp.data(), {dq.data(), stride},
                             {dk.data(), stride}, {dv.data(), stride}, scratch.data());
  for (const auto& values : {attended, dq, dk, dv}) all.push_back(BytesOf(values));
  all.push_back(BytesOf(log_sum_exp));
  return all;
}

TEST(Kernels, BothInstructionSetsGiveTheSameBits) {
  if (BestVectorIsa() != VectorIsa::kV4) GTEST_SKIP() << "this processor has no AVX-512";
  EXPECT_EQ(RunAll<float>(VectorIsa::kV3), RunAll<float>(VectorIsa::kV4));
  EXPECT_EQ(RunAll<Bfloat16>(VectorIsa::kV3), RunAll<Bfloat16>(VectorIsa::kV4));
}

TEST(Kernels, SoftmaxStatisticsDontDependOnTheCutBeyondRounding) {
  const auto scores = Values<float>(1000, 1, 30);
  float maximum = -std::numeric_limits<float>::infinity(), sum = 0;
  KernelsFor<float>().softmax_statistics(scores.data(), 1000, &maximum, &sum);
  float cut_maximum = -std::numeric_limits<float>::infinity(), cut_sum = 0;
  for (int64_t i = 0; i < 1000; i += 100) {
    KernelsFor<float>().softmax_statistics(scores.data() + i, 100, &cut_maximum, &cut_sum);
  }
  EXPECT_EQ(cut_maximum, maximum);
  EXPECT_NEAR(cut_sum, sum, 2e-6F * sum);
}

}  // namespace
}  // namespace penstock::cpu
