#include "core/optimizer/square_sum.h"

#include <array>
#include <cstddef>

namespace penstock {
namespace {

// Lane j adds up elements j, j + 16, j + 32, ...: two vectors of AVX-512, four of AVX2. Part of the result's
// definition: another number of lanes would give other bits.
constexpr size_t kLanes = 16;

// One body for every instruction set. The square of a float is exact in double, so nothing depends on fusing.
[[gnu::always_inline]] inline double SumBody(const float* values, size_t size) {
  std::array<double, kLanes> lanes{};
  const size_t whole = size / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
  for (size_t i = whole; i < size; ++i) {
    const double value = values[i];
    lanes[i - whole] += value * value;
  }
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

[[gnu::target("arch=x86-64-v4,prefer-vector-width=512")]] double SumV4(const float* values, size_t size) {
  return SumBody(values, size);
}

double SumV3(const float* values, size_t size) { return SumBody(values, size); }

}  // namespace

double SumOfSquares(std::span<const float> values, VectorIsa isa) {
  return (isa == VectorIsa::kV4 ? SumV4 : SumV3)(values.data(), values.size());
}

}  // namespace penstock
