// Attention's kernels by themselves, on the emulator and on a device: every size of the tensor cores' tiles and the
// ordinary cores' kernel, lengths around the tiles' edges, causal and full, rows that can't be copied by 16 bytes.
#include "worker/ops/cuda/kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "core/base/bfloat16.h"
#include "worker/ops/cuda/testing/on_device.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/numeric.h"

namespace penstock::cuda {
namespace {

// What an attention's products of bf16 may differ by: rounded probabilities in sums, and rounded outputs.
constexpr double kForwardTolerance = 0x1.2p-8;
constexpr double kBackwardTolerance = 0x1.2p-7;
constexpr double kStrictTolerance = 5e-6;
constexpr size_t kGuard = 64;  // elements behind an output, which must stay

template <typename T>
struct Type;
template <>
struct Type<float> {
  static constexpr double kForward = kStrictTolerance, kBackward = kStrictTolerance;
  static float From(double value) { return static_cast<float>(value); }
  static double To(float value) { return static_cast<double>(value); }
};
template <>
struct Type<Bf16> {
  static constexpr double kForward = kForwardTolerance, kBackward = kBackwardTolerance;
  static Bf16 From(double value) { return {ToBfloat16(static_cast<float>(value)).bits}; }
  static double To(Bf16 value) { return static_cast<double>(ToFloat(Bfloat16{value.bits})); }
};

template <typename T>
std::vector<T> Narrow(const std::vector<double>& values, size_t shift = 0) {
  std::vector<T> narrow(shift, Type<T>::From(0));
  for (const double value : values) narrow.push_back(Type<T>::From(value));
  return narrow;
}
template <typename T>
std::vector<double> Wide(const std::vector<T>& values, size_t begin, size_t count) {
  std::vector<double> wide;
  for (size_t i = begin; i < begin + count; ++i) wide.push_back(Type<T>::To(values[i]));
  return wide;
}

class AttentionKernelsTest : public KernelTest {
 protected:
  // Tensors begin `shift` elements behind an aligned address.
  template <typename T>
  void Check(const AttentionShape& shape, bool causal, size_t shift) {
    SCOPED_TRACE(testing::Message() << shape.batch << ", " << shape.seq_length << ", " << shape.heads << ", "
                                    << shape.head_dim << (causal ? ", causal" : ", full") << ", from " << shift);
    const size_t rows = static_cast<size_t>(shape.batch * shape.heads * shape.seq_length);
    const size_t size = rows * static_cast<size_t>(shape.head_dim);
    // Scores of up to about 20: probabilities from flat to sharp.
    const double spread = 3 / std::pow(static_cast<double>(shape.head_dim) / 20, 0.25);
    const auto qkv = Wide(Narrow<T>(RandomValues(static_cast<int64_t>(3 * size), 1, spread)), 0, 3 * size);
    const auto dout = Wide(Narrow<T>(RandomValues(static_cast<int64_t>(size), 2)), 0, size);
    const AttentionSizes sizes = {.batch = shape.batch,
                                  .seq_length = shape.seq_length,
                                  .heads = shape.heads,
                                  .head_dim = shape.head_dim,
                                  .causal = causal};
    const T unwritten = Type<T>::From(std::nan(""));
    const OnDevice<T> qkv_(Narrow<T>(qkv, shift)), dout_(Narrow<T>(dout, shift));
    const OnDevice<T> out(std::vector<T>(shift + size + kGuard, unwritten));
    const OnDevice<T> dqkv(std::vector<T>(shift + 3 * size + kGuard, unwritten));
    const OnDevice<float> log_sum_exp(std::vector<float>(rows + kGuard, NAN)), dot(std::vector<float>(rows, NAN));
    const auto run = [&] {
      ASSERT_EQ(AttentionForward(sizes, qkv_.data() + shift, out.data() + shift, log_sum_exp.data(), nullptr),
                cudaSuccess);
      ASSERT_EQ(AttentionBackward(sizes, qkv_.data() + shift, out.data() + shift, log_sum_exp.data(),
                                  dout_.data() + shift, dot.data(), dqkv.data() + shift, nullptr),
                cudaSuccess);
    };
    run();
    const std::vector<T> out_first = out.Read(), dqkv_first = dqkv.Read();
    EXPECT_LT(RelativeError(Wide(out_first, shift, size), reference::AttentionForward(shape, qkv, causal)),
              Type<T>::kForward);
    EXPECT_LT(RelativeError(Wide(dqkv_first, shift, 3 * size), reference::AttentionBackward(shape, qkv, dout, causal)),
              Type<T>::kBackward);
    const auto stays = [&](const std::vector<T>& values) {
      const std::vector<T> guard(kGuard, unwritten);
      return std::memcmp(values.data() + values.size() - kGuard, guard.data(), kGuard * sizeof(T)) == 0;
    };
    EXPECT_TRUE(stays(out_first) && stays(dqkv_first)) << "written behind the end";
    const std::vector<float> sums = log_sum_exp.Read();
    EXPECT_TRUE(std::all_of(sums.begin(), sums.end() - kGuard, [](float sum) { return std::isfinite(sum); }));
    EXPECT_TRUE(std::isnan(sums[rows])) << "written behind the end";
    run();
    EXPECT_TRUE(SameBits(out.Read(), out_first) && SameBits(dqkv.Read(), dqkv_first));
  }
};

TEST_F(AttentionKernelsTest, TensorCoresMatchTheReference) {
  for (const bool causal : {true, false}) {
    for (const AttentionShape& shape : {AttentionShape{.batch = 1, .seq_length = 1, .heads = 1, .head_dim = 64},
                                        AttentionShape{.batch = 2, .seq_length = 131, .heads = 2, .head_dim = 32},
                                        AttentionShape{.batch = 1, .seq_length = 193, .heads = 1, .head_dim = 64},
                                        AttentionShape{.batch = 1, .seq_length = 128, .heads = 2, .head_dim = 64},
                                        AttentionShape{.batch = 1, .seq_length = 65, .heads = 2, .head_dim = 80},
                                        AttentionShape{.batch = 1, .seq_length = 97, .heads = 1, .head_dim = 96},
                                        AttentionShape{.batch = 1, .seq_length = 161, .heads = 1, .head_dim = 128}}) {
      Check<Bf16>(shape, causal, 0);
    }
  }
}

TEST_F(AttentionKernelsTest, RowsNeedNoAlignment) {
  for (const bool causal : {true, false}) {
    Check<Bf16>({.batch = 2, .seq_length = 67, .heads = 3, .head_dim = 5}, causal, 0);
    Check<Bf16>({.batch = 1, .seq_length = 33, .heads = 2, .head_dim = 99}, causal, 0);
    Check<Bf16>({.batch = 1, .seq_length = 70, .heads = 1, .head_dim = 64}, causal, 1);
  }
}

TEST_F(AttentionKernelsTest, LargeHeadsAndFp32GoToTheOrdinaryCores) {
  for (const bool causal : {true, false}) {
    Check<Bf16>({.batch = 1, .seq_length = 37, .heads = 2, .head_dim = 160}, causal, 0);
    Check<float>({.batch = 1, .seq_length = 70, .heads = 2, .head_dim = 64}, causal, 0);
    Check<float>({.batch = 1, .seq_length = 37, .heads = 1, .head_dim = 200}, causal, 0);
  }
}

// A score that is far above the others, which comes late: what was summed up before is scaled down to nothing.
TEST_F(AttentionKernelsTest, ALateMaximumTakesOver) {
  const AttentionShape shape = {.batch = 1, .seq_length = 150, .heads = 1, .head_dim = 64};
  const size_t per_position = 3 * 64;
  std::vector<double> qkv(150 * per_position);
  for (size_t t = 0; t < 150; ++t) {
    for (size_t d = 0; d < 64; ++d) {
      qkv[t * per_position + d] = 8;                             // query
      qkv[t * per_position + 64 + d] = t == 140 ? 16 : -16;      // key: scores of 1024 and -1024
      qkv[t * per_position + 128 + d] = static_cast<double>(t);  // value
    }
  }
  const OnDevice<Bf16> qkv_(Narrow<Bf16>(qkv)), out(std::vector<Bf16>(150 * 64, Type<Bf16>::From(0)));
  const OnDevice<float> log_sum_exp(std::vector<float>(150, NAN));
  const AttentionSizes sizes = {.batch = 1, .seq_length = 150, .heads = 1, .head_dim = 64};
  ASSERT_EQ(AttentionForward(sizes, qkv_.data(), out.data(), log_sum_exp.data(), nullptr), cudaSuccess);
  const std::vector<double> result = Wide(out.Read(), 0, 150 * 64);
  EXPECT_LT(RelativeError(result, reference::AttentionForward(shape, qkv)), kForwardTolerance);
  EXPECT_EQ(result[139 * 64], 69.5);  // the mean of 0 to 139, to bf16's eight bits
  EXPECT_EQ(result[140 * 64], 140);
  const std::vector<float> sums = log_sum_exp.Read();
  EXPECT_NEAR(sums[139], -1024 + std::log(140.0F), 1e-3);
  EXPECT_NEAR(sums[149], 1024, 1e-3);
}

}  // namespace
}  // namespace penstock::cuda
