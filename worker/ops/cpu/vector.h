// Sixteen floats at a time, with sums in a fixed order, and an exponential that compiles to vector code.
//
// g++'s vector extensions: on AVX2 one Floats is two registers. Every function is made of IEEE operations in a written
// order (the build has -ffp-contract=off), so bits depend neither on alignment nor on the width of the machine's
// registers. Sums have sixteen lanes, added up pairwise at the end.
#ifndef PENSTOCK_WORKER_OPS_CPU_VECTOR_H_
#define PENSTOCK_WORKER_OPS_CPU_VECTOR_H_

#include <cstdint>
#include <cstring>

namespace penstock::cpu {

inline constexpr int64_t kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Bits __attribute__((vector_size(64)));

#define PENSTOCK_INLINE __attribute__((always_inline)) inline

PENSTOCK_INLINE Floats Load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// The first `count` < kLanes floats; the rest is `fill`.
PENSTOCK_INLINE Floats LoadPart(const float* p, int64_t count, float fill = 0) {
  Floats v = fill - Floats{};
  std::memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
  return v;
}

PENSTOCK_INLINE void Store(float* p, Floats v) { std::memcpy(p, &v, sizeof(v)); }

PENSTOCK_INLINE void StorePart(float* p, Floats v, int64_t count) {
  std::memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
}

PENSTOCK_INLINE Floats Splat(float x) { return x - Floats{}; }

PENSTOCK_INLINE float Sum(Floats v) {
  float lane[kLanes];
  std::memcpy(lane, &v, sizeof(v));
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

// A NaN in either is kept.
PENSTOCK_INLINE Floats Max(Floats a, Floats b) { return (a > b) | (a != a) ? a : b; }

PENSTOCK_INLINE float MaxLane(Floats v) {
  float lane[kLanes];
  std::memcpy(lane, &v, sizeof(v));
  float result = lane[0];
  for (int64_t i = 1; i < kLanes; ++i) result = lane[i] > result || lane[i] != lane[i] ? lane[i] : result;
  return result;
}

// e^x to about 1e-7 of its value for -87 <= x <= 88; x is clamped to that. A NaN stays one.
// Cody-Waite reduction and the polynomial of Cephes' expf (Moshier).
PENSTOCK_INLINE Floats Exp(Floats x) {
  x = x > 88.0F ? Splat(88.0F) : x;
  x = x < -87.0F ? Splat(-87.0F) : x;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const Floats shifted = x * 1.44269504088896341F + 12582912.0F;
  const Floats n = shifted - 12582912.0F;
  const Floats r = x - n * 0.693359375F - n * -2.12194440e-4F;
  Floats p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const Bits exponent = ((Bits)shifted + 127U) << 23U;  // a cast between vectors keeps the bits
  return p * (Floats)exponent;
}

// Calls body(i, count) for i = 0, 16, 32, ...: count is 16 but perhaps for the last.
template <typename Body>
PENSTOCK_INLINE void ForLanes(int64_t begin, int64_t end, const Body& body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, kLanes);
  if (i < end) body(i, end - i);
}

// Reads 16 floats, or the part that is there.
PENSTOCK_INLINE Floats LoadUpTo(const float* p, int64_t count, float fill = 0) {
  return count == kLanes ? Load(p) : LoadPart(p, count, fill);
}

PENSTOCK_INLINE void StoreUpTo(float* p, Floats v, int64_t count) {
  if (count == kLanes) {
    Store(p, v);
  } else {
    StorePart(p, v, count);
  }
}

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_VECTOR_H_
