// The kernels whose bits must be the host's: AdamW, sums of squares, sums in group order. Built for the device and for
// the emulator.
#include <cuda_runtime_api.h>

#include <bit>
#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "core/base/bfloat16.h"
#include "core/optimizer/adamw.h"
#include "core/optimizer/square_sum.h"
#include "gtest/gtest.h"
#include "worker/ops/cuda/kernels/adamw.h"
#include "worker/ops/cuda/kernels/adamw_constants.h"
#include "worker/ops/cuda/kernels/ordered_sum.h"
#include "worker/ops/cuda/kernels/square_sum.h"
#include "worker/ops/cuda/testing/on_device.h"

namespace penstock::cuda {
namespace {

class OptimizerKernelsTest : public KernelTest {};

std::vector<float> Random(size_t size, unsigned seed, float spread = 5) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(generator) * std::exp(spread * normal(generator));
  return values;
}

TEST_F(OptimizerKernelsTest, AdamWHasTheHostsBits) {
  const AdamWParams params = {.learning_rate = 1e-3f,
                              .beta1 = 0.9f,
                              .beta2 = 0.999f,
                              .epsilon = 1e-8f,
                              .weight_decay = 0.1f,
                              .gradient_scale = 0.25f,
                              .bias_correction1 = 1 / (1 - 0.9f * 0.9f),
                              .bias_correction2 = 1 / (1 - 0.999f * 0.999f)};
  for (const size_t size : {size_t{1}, size_t{3}, size_t{7}, size_t{64}, size_t{5003}}) {
    // From every alignment, together and (the last one) apart.
    for (const size_t shift : {size_t{0}, size_t{1}, size_t{2}, size_t{3}}) {
      std::vector<float> g = Random(size + shift, 1), w = Random(size + shift, 2), m = Random(size + shift, 3);
      std::vector<float> v = Random(size + shift, 4);
      for (float& value : v) value = std::abs(value);
      // Denormals too.
      for (size_t i = shift; i < g.size(); i += 5) {
        g[i] *= 1e-38f;
        m[i] *= 1e-38f;
        v[i] *= 1e-40f;
      }
      const OnDevice<float> g_(g), w_(w), m_(m), v_(v);
      // With and without the rounded weights.
      const OnDevice<Bf16> rounded(std::vector<Bf16>(size + shift, Bf16{0}));
      ASSERT_EQ(
          AdamWUpdate(ConstantsOf(params), g_.data() + shift, w_.data() + shift, m_.data() + shift, v_.data() + shift,
                      shift == 2 ? nullptr : rounded.data() + shift, static_cast<int64_t>(size), nullptr),
          cudaSuccess);
      penstock::AdamWUpdate(params, std::span(g).subspan(shift), std::span(w).subspan(shift),
                            std::span(m).subspan(shift), std::span(v).subspan(shift));
      EXPECT_TRUE(SameBits(w_.Read(), w)) << size << ", " << shift;
      EXPECT_TRUE(SameBits(m_.Read(), m)) << size << ", " << shift;
      EXPECT_TRUE(SameBits(v_.Read(), v)) << size << ", " << shift;
      std::vector<Bf16> expected(size + shift, Bf16{0});
      for (size_t i = shift; i < w.size() && shift != 2; ++i) expected[i].bits = ToBfloat16(w[i]).bits;
      EXPECT_TRUE(SameBits(rounded.Read(), expected)) << size << ", " << shift;
    }
  }
}

TEST_F(OptimizerKernelsTest, SquareSumsHaveTheHostsBits) {
  const std::vector<float> values = Random(20000, 7);
  const OnDevice<float> values_(values);
  std::vector<SquarePiece> pieces;
  std::vector<double> expected;
  // Any size and alignment, more pieces than a block takes, the last block's second one missing.
  size_t at = 3;
  for (const size_t size : {1, 15, 16, 17, 24, 1000, 1023, 1025, 4096, 2048, 5000}) {
    pieces.push_back({values_.data() + at, static_cast<int64_t>(size)});
    expected.push_back(SumOfSquares(std::span(values).subspan(at, size)));
    at += size;
  }
  const OnDevice<SquarePiece> pieces_(pieces);
  const OnDevice<double> sums(std::vector<double>(expected.size(), -1));
  ASSERT_EQ(SumsOfSquares(pieces_.data(), static_cast<int64_t>(pieces.size()), sums.data(), nullptr), cudaSuccess);
  EXPECT_TRUE(SameBits(sums.Read(), expected));
}

TEST_F(OptimizerKernelsTest, GroupSumsAreInTheGroupsOrder) {
  for (const int members : {2, 3, 5}) {
    // By 16 bytes, and where that isn't possible.
    const int64_t size = members == 3 ? 1003 : 1000;
    const int64_t stride = members == 3 ? 1005 : 1024;
    std::vector<std::vector<float>> all;
    for (int i = 0; i < members; ++i) all.push_back(Random(static_cast<size_t>(size), 10 + static_cast<unsigned>(i)));
    std::vector<float> expected = all[0];
    for (int i = 1; i < members; ++i) {
      for (size_t k = 0; k < static_cast<size_t>(size); ++k) expected[k] += all[static_cast<size_t>(i)][k];
    }
    for (int self = 0; self < members; ++self) {
      std::vector<float> others(static_cast<size_t>((members - 1) * stride), NAN);
      for (int i = 0, at = 0; i < members; ++i) {
        if (i == self) continue;
        std::copy(all[static_cast<size_t>(i)].begin(), all[static_cast<size_t>(i)].end(),
                  others.begin() + stride * at++);
      }
      const OnDevice<float> own(all[static_cast<size_t>(self)]), others_(others);
      ASSERT_EQ(AddInOrder(own.data(), size, others_.data(), stride, members - 1, self, nullptr), cudaSuccess);
      EXPECT_TRUE(SameBits(own.Read(), expected)) << members << ", " << self;
    }
  }
}

}  // namespace
}  // namespace penstock::cuda
