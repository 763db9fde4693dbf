// Kernels that move 16 bytes at a time where addresses allow it, and single values where they don't, give the same bits
// either way. Built for the device, whose vectorised accesses nothing else has ever run, and for the emulator.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "core/base/bfloat16.h"
#include "gtest/gtest.h"
#include "worker/ops/cuda/kernels/column_sum.h"
#include "worker/ops/cuda/kernels/cross_entropy.h"
#include "worker/ops/cuda/kernels/elementwise.h"
#include "worker/ops/cuda/kernels/embedding.h"
#include "worker/ops/cuda/kernels/layer_norm.h"
#include "worker/ops/cuda/testing/on_device.h"

namespace penstock::cuda {
namespace {

Bf16 Cast(float value, Bf16) { return {ToBfloat16(value).bits}; }
float Cast(float value, float) { return value; }

// `size` values of T on the device, of which the first lies `shift` elements behind a well aligned address.
template <typename T>
class Shifted {
 public:
  Shifted(int64_t size, int64_t shift, unsigned seed) : shift_(shift), values_(Values(size, shift, seed)) {}
  T* data() const { return values_.data() + shift_; }
  std::vector<T> Read() const {
    const std::vector<T> all = values_.Read();
    return {all.begin() + shift_, all.end()};
  }

 private:
  static std::vector<T> Values(int64_t size, int64_t shift, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<T> values(static_cast<size_t>(size + shift));
    for (int64_t i = shift; i < size + shift; ++i) values[static_cast<size_t>(i)] = Cast(normal(generator), T{});
    return values;
  }

  const int64_t shift_;
  const OnDevice<T> values_;
};

// What a kernel leaves behind, as bytes one after the other.
class Results {
 public:
  template <typename T>
  void Add(const std::vector<T>& values) {
    const size_t at = bytes_.size();
    bytes_.resize(at + values.size() * sizeof(T));
    std::memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(T));
  }
  bool operator==(const Results&) const = default;

 private:
  std::vector<std::byte> bytes_;
};

template <typename T>
class AlignmentTest : public KernelTest {
 protected:
  // run(shift): the results of a kernel whose arrays are that many elements away from 16 bytes.
  template <typename Run>
  void Compare(const Run& run) {
    if (this->IsSkipped()) return;
    EXPECT_TRUE(run(0) == run(1));
  }
};
using Types = testing::Types<float, Bf16>;
TYPED_TEST_SUITE(AlignmentTest, Types);

TYPED_TEST(AlignmentTest, LayerNorm) {
  using T = TypeParam;
  // Of one warp and of several, with packs that some lanes haven't got, too wide for registers.
  for (const int64_t width : {8, 776, 1536, 3080, 16392}) {
    SCOPED_TRACE(width);
    const int64_t rows = width > 4000 ? 3 : 21;
    this->Compare([&](int64_t shift) {
      const Shifted<T> x(rows * width, shift, 1), other(rows * width, shift, 2), gamma(width, shift, 3),
          beta(width, shift, 4), dx(rows * width, shift, 5);
      const Shifted<T> y(rows * width, shift, 6), sum(rows * width, shift, 6), y_of_sum(rows * width, shift, 6);
      const Shifted<float> mean(rows, 0, 6), reciprocal_std(rows, 0, 6), dgamma(width, 0, 6), dbeta(width, 0, 6);
      const OnDevice<std::byte> workspace(
          std::vector<std::byte>(static_cast<size_t>(LayerNormWorkspaceBytes(rows, width))));
      EXPECT_EQ(LayerNormForwardOfSum<T>(x.data(), other.data(), sum.data(), gamma.data(), beta.data(), rows, width,
                                         1e-5F, y_of_sum.data(), mean.data(), reciprocal_std.data(), nullptr),
                cudaSuccess);
      EXPECT_EQ(LayerNormForward<T>(x.data(), gamma.data(), beta.data(), rows, width, 1e-5F, y.data(), mean.data(),
                                    reciprocal_std.data(), nullptr),
                cudaSuccess);
      EXPECT_EQ(LayerNormBackward<T>(x.data(), gamma.data(), mean.data(), reciprocal_std.data(), other.data(), rows,
                                     width, reinterpret_cast<float*>(workspace.data()), dx.data(), dgamma.data(),
                                     dbeta.data(), /*add=*/true, nullptr),
                cudaSuccess);
      Results results;
      for (const auto* values : {&y, &sum, &y_of_sum, &dx}) results.Add(values->Read());
      for (const auto* values : {&mean, &reciprocal_std, &dgamma, &dbeta}) results.Add(values->Read());
      return results;
    });
  }
}

TYPED_TEST(AlignmentTest, ColumnSums) {
  using T = TypeParam;
  constexpr int64_t kRows = 333;
  constexpr int64_t kWidth = 776;
  this->Compare([&](int64_t shift) {
    const Shifted<T> values(kRows * kWidth, shift, 1);
    const Shifted<float> sums(kWidth, 0, 2);
    const OnDevice<std::byte> workspace(
        std::vector<std::byte>(static_cast<size_t>(ColumnSumWorkspaceBytes(kRows, kWidth))));
    EXPECT_EQ(ColumnSums<T>(values.data(), kRows, kWidth, reinterpret_cast<float*>(workspace.data()), sums.data(),
                            /*add=*/true, nullptr),
              cudaSuccess);
    Results results;
    results.Add(sums.Read());
    return results;
  });
}

TYPED_TEST(AlignmentTest, CrossEntropy) {
  using T = TypeParam;
  constexpr int64_t kRows = 3;
  for (const int64_t vocabulary : {61, 20'001}) {
    SCOPED_TRACE(vocabulary);
    const int64_t pitch = (vocabulary + 7) / 8 * 8;
    this->Compare([&](int64_t shift) {
      const Shifted<T> logits(kRows * pitch, shift, 1);
      const OnDevice<int32_t> targets(std::vector<int32_t>{0, -1, static_cast<int32_t>(vocabulary - 1)});
      const OnDevice<RowReduction> reductions{std::vector<RowReduction>(kRows)};
      EXPECT_EQ(ReduceRows<T>({kRows, 0, vocabulary, 1}, logits.data(), pitch, targets.data(), /*gradient=*/true,
                              reductions.data(), nullptr),
                cudaSuccess);
      Results results;
      results.Add(reductions.Read());
      const std::vector<T> rows = logits.Read();
      for (int64_t row = 0; row < kRows; ++row) {  // not what is between them
        results.Add(std::vector<T>(rows.begin() + row * pitch, rows.begin() + row * pitch + vocabulary));
      }
      return results;
    });
  }
}

TYPED_TEST(AlignmentTest, Elementwise) {
  using T = TypeParam;
  for (const int64_t count : {8, 4096, 10'008, 10'011}) {
    SCOPED_TRACE(count);
    this->Compare([&](int64_t shift) {
      const Shifted<T> a(count, shift, 1), b(count, shift, 2);
      const Shifted<T> sum(count, shift, 3), gelu(count, shift, 3), gradient(count, shift, 3);
      EXPECT_EQ(AddElements<T>(a.data(), b.data(), sum.data(), count, nullptr), cudaSuccess);
      EXPECT_EQ(GeluForward<T>(a.data(), gelu.data(), count, nullptr), cudaSuccess);
      EXPECT_EQ(GeluBackward<T>(a.data(), b.data(), gradient.data(), count, nullptr), cudaSuccess);
      Results results;
      for (const auto* values : {&sum, &gelu, &gradient}) results.Add(values->Read());
      return results;
    });
  }
}

TYPED_TEST(AlignmentTest, Embedding) {
  using T = TypeParam;
  const EmbeddingSizes sizes = {.batch = 11, .seq_length = 5, .hidden = 1040, .vocab_begin = 2, .vocab_end = 9};
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 55; ++i) tokens.push_back(i * 7 % 11);
  this->Compare([&](int64_t shift) {
    const OnDevice<int32_t> tokens_(tokens);
    const Shifted<T> wte(7 * sizes.hidden, shift, 1), wpe(5 * sizes.hidden, shift, 2), x(55 * sizes.hidden, shift, 3);
    const Shifted<float> dwte(7 * sizes.hidden, shift, 4), dwpe(5 * sizes.hidden, shift, 5);
    const OnDevice<std::byte> workspace(std::vector<std::byte>(static_cast<size_t>(EmbeddingWorkspaceBytes(55))));
    EXPECT_EQ(EmbeddingForward<T>(sizes, tokens_.data(), wte.data(), wpe.data(), x.data(), nullptr), cudaSuccess);
    EXPECT_EQ(EmbeddingBackward<T>(sizes, tokens_.data(), x.data(), reinterpret_cast<int32_t*>(workspace.data()),
                                   dwte.data(), dwpe.data(), nullptr),
              cudaSuccess);
    Results results;
    results.Add(x.Read());
    for (const auto* values : {&dwte, &dwpe}) results.Add(values->Read());
    return results;
  });
}

}  // namespace
}  // namespace penstock::cuda
