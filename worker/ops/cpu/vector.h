// Sixteen floats at a time, with sums in a fixed order, and an exponential that compiles to vector code.
//
// With AVX-512 a Floats is one register, else two of AVX2. Every function is made of IEEE operations in a written order
// (the build has -ffp-contract=off; Fma is fused on every machine), so bits depend neither on alignment nor on the
// width of the machine's registers. Sums have sixteen lanes, added up pairwise at the end.
//
// Memory holds float or Bfloat16; arithmetic is always fp32.
//
// A file that is compiled for AVX-512 (kernels_v4.cc) names its instruction set in PENSTOCK_ISA, so that no two
// versions of a function have one name, and defines PENSTOCK_AVX512.
#ifndef PENSTOCK_WORKER_OPS_CPU_VECTOR_H_
#define PENSTOCK_WORKER_OPS_CPU_VECTOR_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "core/base/bfloat16.h"

#ifndef PENSTOCK_ISA
#define PENSTOCK_ISA v3
#endif

namespace penstock::cpu {
namespace PENSTOCK_ISA {

inline constexpr int64_t kLanes = 16;

#define PENSTOCK_INLINE __attribute__((always_inline)) inline
// For lambdas, after their parameters.
#define PENSTOCK_INLINED __attribute__((always_inline))

#ifdef PENSTOCK_AVX512

typedef __m512 Floats;  // with g++'s operators on vectors

PENSTOCK_INLINE Floats Splat(float x) { return _mm512_set1_ps(x); }
PENSTOCK_INLINE Floats Fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
PENSTOCK_INLINE Floats AtMost(Floats x, float limit) { return _mm512_min_ps(Splat(limit), x); }
PENSTOCK_INLINE Floats AtLeast(Floats x, float limit) { return _mm512_max_ps(Splat(limit), x); }
PENSTOCK_INLINE Floats Max(Floats a, Floats b) {
  return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
PENSTOCK_INLINE Floats PowerOfTwo(Floats shifted) {
  return (Floats)_mm512_slli_epi32(_mm512_add_epi32((__m512i)shifted, _mm512_set1_epi32(127)), 23);
}
PENSTOCK_INLINE Floats Load(const float* p) { return _mm512_loadu_ps(p); }
PENSTOCK_INLINE void Store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
PENSTOCK_INLINE Floats Load(const Bfloat16* p) {
  __m256i halves;
  std::memcpy(&halves, p, sizeof(halves));
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}
PENSTOCK_INLINE void Store(Bfloat16* p, Floats v) {
  const __m512i bits = (__m512i)v;
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16);
  const __m512i nan = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
  const __m256i halves =
      _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), nan));
  std::memcpy(static_cast<void*>(p), &halves, sizeof(halves));
}

#else

struct Floats {
  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();

  PENSTOCK_INLINE Floats() = default;
  PENSTOCK_INLINE Floats(float x) : low(_mm256_set1_ps(x)), high(low) {}
  PENSTOCK_INLINE Floats(__m256 l, __m256 h) : low(l), high(h) {}

  friend PENSTOCK_INLINE Floats operator+(Floats a, Floats b) { return {a.low + b.low, a.high + b.high}; }
  friend PENSTOCK_INLINE Floats operator-(Floats a, Floats b) { return {a.low - b.low, a.high - b.high}; }
  friend PENSTOCK_INLINE Floats operator*(Floats a, Floats b) { return {a.low * b.low, a.high * b.high}; }
  friend PENSTOCK_INLINE Floats operator/(Floats a, Floats b) { return {a.low / b.low, a.high / b.high}; }
  PENSTOCK_INLINE Floats& operator+=(Floats b) { return *this = *this + b; }
};

PENSTOCK_INLINE Floats Splat(float x) { return x; }
PENSTOCK_INLINE Floats Fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
PENSTOCK_INLINE Floats AtMost(Floats x, float limit) {
  const __m256 all = _mm256_set1_ps(limit);
  return {_mm256_min_ps(all, x.low), _mm256_min_ps(all, x.high)};
}
PENSTOCK_INLINE Floats AtLeast(Floats x, float limit) {
  const __m256 all = _mm256_set1_ps(limit);
  return {_mm256_max_ps(all, x.low), _mm256_max_ps(all, x.high)};
}
PENSTOCK_INLINE __m256 Max(__m256 a, __m256 b) {
  return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
PENSTOCK_INLINE Floats Max(Floats a, Floats b) { return {Max(a.low, b.low), Max(a.high, b.high)}; }
PENSTOCK_INLINE __m256 PowerOfTwo(__m256 shifted) {
  return (__m256)_mm256_slli_epi32(_mm256_add_epi32((__m256i)shifted, _mm256_set1_epi32(127)), 23);
}
PENSTOCK_INLINE Floats PowerOfTwo(Floats shifted) { return {PowerOfTwo(shifted.low), PowerOfTwo(shifted.high)}; }
PENSTOCK_INLINE __m256 Widen(__m128i halves) { return (__m256)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16); }
PENSTOCK_INLINE Floats Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
PENSTOCK_INLINE void Store(float* p, Floats v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}
PENSTOCK_INLINE Floats Load(const Bfloat16* p) {
  __m128i halves[2];
  std::memcpy(halves, p, sizeof(halves));
  return {Widen(halves[0]), Widen(halves[1])};
}
// In the lower halves of the lanes.
PENSTOCK_INLINE __m256i Narrow(__m256 v) {
  const __m256i bits = (__m256i)v;
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
  const __m256i nan = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(rounded, nan, (__m256i)_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}
PENSTOCK_INLINE void Store(Bfloat16* p, Floats v) {
  // Packing goes by halves of the register: put the quarters in order again.
  const __m256i halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(Narrow(v.low), Narrow(v.high)), 0b11011000);
  std::memcpy(static_cast<void*>(p), &halves, sizeof(halves));
}

#endif
// AtMost, AtLeast: x where it is a NaN. Max: a NaN in either is kept. PowerOfTwo: 2^n of n + 1.5 * 2^23.

// The first `count` < kLanes elements; the rest is `fill`.
PENSTOCK_INLINE Floats LoadPart(const float* p, int64_t count, float fill = 0) {
  float lane[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lane[i] = i < count ? p[i] : fill;
  return Load(lane);
}
PENSTOCK_INLINE Floats LoadPart(const Bfloat16* p, int64_t count, float fill = 0) {
  float lane[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lane[i] = i < count ? ToFloat(p[i]) : fill;
  return Load(lane);
}

PENSTOCK_INLINE void StorePart(float* p, Floats v, int64_t count) {
  float all[kLanes];
  Store(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(float));
}
PENSTOCK_INLINE void StorePart(Bfloat16* p, Floats v, int64_t count) {
  Bfloat16 all[kLanes];
  Store(all, v);
  std::memcpy(static_cast<void*>(p), all, static_cast<size_t>(count) * sizeof(Bfloat16));
}

PENSTOCK_INLINE float FirstLane(Floats v) {
  float lane[kLanes];
  Store(lane, v);
  return lane[0];
}

PENSTOCK_INLINE float Sum(Floats v) {
  float lane[kLanes];
  Store(lane, v);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

PENSTOCK_INLINE float MaxLane(Floats v) {
  float lane[kLanes];
  Store(lane, v);
  float result = lane[0];
  for (int64_t i = 1; i < kLanes; ++i) result = lane[i] > result || lane[i] != lane[i] ? lane[i] : result;
  return result;
}

// e^x to about 1e-7 of its value for -87 <= x <= 88; x is clamped to that. A NaN stays one.
// Cody-Waite reduction and the polynomial of Cephes' expf (Moshier).
PENSTOCK_INLINE Floats Exp(Floats x) {
  x = AtLeast(AtMost(x, 88.0F), -87.0F);
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const Floats shifted = Fma(x, Splat(1.44269504088896341F), Splat(12582912.0F));
  const Floats n = shifted - Splat(12582912.0F);
  const Floats r = Fma(n, Splat(2.12194440e-4F), Fma(n, Splat(-0.693359375F), x));
  Floats p = Fma(r, Splat(1.9875691500e-4F), Splat(1.3981999507e-3F));
  p = Fma(p, r, Splat(8.3334519073e-3F));
  p = Fma(p, r, Splat(4.1665795894e-2F));
  p = Fma(p, r, Splat(1.6666665459e-1F));
  p = Fma(p, r, Splat(5.0000001201e-1F));
  p = Fma(p, r * r, r + Splat(1.0F));
  return p * PowerOfTwo(shifted);
}

// Calls body(i, count) for i = 0, 16, 32, ...: count is 16 but perhaps for the last.
template <typename Body>
PENSTOCK_INLINE void ForLanes(int64_t begin, int64_t end, const Body& body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, kLanes);
  if (i < end) body(i, end - i);
}

// Reads 16 elements, or the part that is there.
template <typename T>
PENSTOCK_INLINE Floats LoadUpTo(const T* p, int64_t count, float fill = 0) {
  return count == kLanes ? Load(p) : LoadPart(p, count, fill);
}

template <typename T>
PENSTOCK_INLINE void StoreUpTo(T* p, Floats v, int64_t count) {
  if (count == kLanes) {
    Store(p, v);
  } else {
    StorePart(p, v, count);
  }
}

}  // namespace PENSTOCK_ISA
}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_VECTOR_H_
