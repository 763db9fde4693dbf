#include "worker/generate/row_products.h"

#include <algorithm>
#include <array>

#include "worker/ops/cpu/parallel.h"

namespace penstock {
namespace {

// Sums kept side by side: four vectors of eight, enough to hide an addition's latency.
constexpr int64_t kLanes = 32;
// Columns whose sums stay in the nearest cache.
constexpr int64_t kColumns = 128;

float Dot(const float* a, const float* b, int64_t size) {
  std::array<float, kLanes> sums{};
  const int64_t whole = size / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[static_cast<size_t>(lane)] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (int64_t i = whole; i < size; ++i) sum += a[i] * b[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace

void MultiplyOutIn(const float* in, const float* weight, const float* bias, float* out, int64_t rows, int64_t k,
                   int64_t n, int threads) {
  ParallelFor(threads, n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t column = begin; column < end; ++column) {
      for (int64_t row = 0; row < rows; ++row) {
        out[row * n + column] = Dot(in + row * k, weight + column * k, k) + (bias == nullptr ? 0.0F : bias[column]);
      }
    }
  });
}

void AddMultiplyInOut(const float* in, const float* weight, const float* bias, float* out, int64_t rows, int64_t k,
                      int64_t n, int threads) {
  ParallelFor(threads, n, kColumns, [&](int64_t first, int64_t last) {
    std::array<float, kColumns> sums;
    for (int64_t begin = first; begin < last; begin += kColumns) {
      const int64_t columns = std::min(kColumns, last - begin);
      for (int64_t row = 0; row < rows; ++row) {
        std::copy_n(bias + begin, columns, sums.begin());
        for (int64_t i = 0; i < k; ++i) {
          const float factor = in[row * k + i];
          const float* weights = weight + i * n + begin;
          for (int64_t column = 0; column < columns; ++column)
            sums[static_cast<size_t>(column)] += factor * weights[column];
        }
        for (int64_t column = 0; column < columns; ++column)
          out[row * n + begin + column] += sums[static_cast<size_t>(column)];
      }
    }
  });
}

}  // namespace penstock
