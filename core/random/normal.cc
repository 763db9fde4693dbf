// Normal numbers by Box and Muller (1958), eight or sixteen at a time.
//
// The C library's log, sin and cos differ between versions and machines, so they stand here as polynomials, built from
// IEEE operations whose fusing is written out: the same bits everywhere, and loops that the compiler vectorises. The
// coefficients interpolate at Chebyshev nodes; the functions are good to a few units of the last place of a float.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "core/random/counter.h"
#include "core/random/philox.h"

namespace penstock {
namespace {

// Blocks of four words that are made together; the arrays stay in the first-level cache.
constexpr size_t kBatchBlocks = 64;
constexpr size_t kBatchNormals = 4 * kBatchBlocks;

// Natural logarithm of a normal float above 0.
[[gnu::always_inline]] inline float Log(float x) {
  // x = 2^exponent * (1 + f), with 1 + f between sqrt(1/2) and sqrt(2).
  constexpr int32_t kSqrtHalfBits = 0x3f3504f3;
  const int32_t bits = std::bit_cast<int32_t>(x);
  const int32_t exponent = (bits - kSqrtHalfBits) >> 23;
  const float f = std::bit_cast<float>(
                      static_cast<int32_t>(static_cast<uint32_t>(bits) - (static_cast<uint32_t>(exponent) << 23))) -
                  1.0f;
  // log(1 + f) = f - f^2 / 2 + f^3 p(f).
  float p = 0.0697161183f;
  p = std::fma(p, f, -0.114797339f);
  p = std::fma(p, f, 0.116854198f);
  p = std::fma(p, f, -0.124256872f);
  p = std::fma(p, f, 0.142490581f);
  p = std::fma(p, f, -0.166678026f);
  p = std::fma(p, f, 0.200007156f);
  p = std::fma(p, f, -0.24999997f);
  p = std::fma(p, f, 0.333333313f);
  const float square = f * f;
  const float tail = std::fma(square * f, p, -0.5f * square);
  // log(2) in two parts, the first one exact in products with small integers.
  const float e = static_cast<float>(exponent);
  return std::fma(e, 0.693359375f, f + std::fma(e, -2.12194440e-4f, tail));
}

struct SinCos {
  float sin;
  float cos;
};

// Sine and cosine of 2 pi * (turn / 2^32). The quadrant is split off in integers, so nothing is lost by it.
[[gnu::always_inline]] inline SinCos SinCosOfTurn(uint32_t turn) {
  const uint32_t quadrant = (turn + 0x20000000u) >> 30;
  const int32_t rest = static_cast<int32_t>(turn - (quadrant << 30));
  const float x = static_cast<float>(rest) * 1.46291807926715968e-9f;  // 2 pi / 2^32; x is within pi / 4
  const float z = x * x;
  const float s = std::fma(std::fma(std::fma(-0.000195878907f, z, 0.00833274797f), z, -0.166666642f), z * x, x);
  const float c = std::fma(std::fma(std::fma(2.45479423e-05f, z, -0.00138883025f), z, 0.0416666642f), z * z,
                           std::fma(-0.5f, z, 1.0f));
  const uint32_t swap = 0u - (quadrant & 1u);
  const uint32_t s_bits = std::bit_cast<uint32_t>(s);
  const uint32_t c_bits = std::bit_cast<uint32_t>(c);
  const uint32_t sin_bits = ((s_bits & ~swap) | (c_bits & swap)) ^ ((quadrant & 2u) << 30);
  const uint32_t cos_bits = ((c_bits & ~swap) | (s_bits & swap)) ^ (((quadrant + 1u) & 2u) << 30);
  return {std::bit_cast<float>(sin_bits), std::bit_cast<float>(cos_bits)};
}

// Radius sqrt(-2 log u) for 31 uniform bits; u is in [2^-32, 1].
[[gnu::always_inline]] inline float Radius(uint32_t word) {
  const float u = (static_cast<float>(static_cast<int32_t>(word >> 1)) + 0.5f) * 0x1p-31f;
  return std::sqrt(-2.0f * Log(u));
}

// The kBatchNormals numbers of blocks [first_block, first_block + kBatchBlocks).
[[gnu::always_inline]] inline void BatchBody(uint64_t seed, uint64_t stream, uint64_t first_block,
                                             float* __restrict out) {
  alignas(64) uint32_t x0[kBatchBlocks], x1[kBatchBlocks], x2[kBatchBlocks], x3[kBatchBlocks];
  const uint32_t key0 = static_cast<uint32_t>(seed);
  const uint32_t key1 = static_cast<uint32_t>(seed >> 32);
  for (size_t j = 0; j < kBatchBlocks; ++j) {
    const uint64_t block = first_block + j;
    x0[j] = static_cast<uint32_t>(block);
    x1[j] = static_cast<uint32_t>(block >> 32);
    x2[j] = static_cast<uint32_t>(stream);
    x3[j] = static_cast<uint32_t>(stream >> 32);
  }
  for (size_t j = 0; j < kBatchBlocks; ++j) philox::Rounds(x0[j], x1[j], x2[j], x3[j], key0, key1);
  for (size_t j = 0; j < kBatchBlocks; ++j) {
    const float radius0 = Radius(x0[j]);
    const float radius1 = Radius(x2[j]);
    const SinCos turn0 = SinCosOfTurn(x1[j]);
    const SinCos turn1 = SinCosOfTurn(x3[j]);
    out[4 * j + 0] = radius0 * turn0.cos;
    out[4 * j + 1] = radius0 * turn0.sin;
    out[4 * j + 2] = radius1 * turn1.cos;
    out[4 * j + 3] = radius1 * turn1.sin;
  }
}

[[gnu::target("arch=x86-64-v4,prefer-vector-width=512")]] void BatchV4(uint64_t seed, uint64_t stream,
                                                                       uint64_t first_block, float* out) {
  BatchBody(seed, stream, first_block, out);
}

void BatchV3(uint64_t seed, uint64_t stream, uint64_t first_block, float* out) {
  BatchBody(seed, stream, first_block, out);
}

}  // namespace

void FillNormal(uint64_t seed, uint64_t stream, uint64_t begin, std::span<float> out, VectorIsa isa) {
  const auto batch = isa == VectorIsa::kV4 ? BatchV4 : BatchV3;
  alignas(64) float normals[kBatchNormals];
  for (size_t done = 0; done < out.size();) {
    const uint64_t index = begin + done;
    batch(seed, stream, index / 4, normals);
    const size_t skip = index % 4;
    const size_t count = std::min(kBatchNormals - skip, out.size() - done);
    std::memcpy(out.data() + done, normals + skip, count * sizeof(float));
    done += count;
  }
}

}  // namespace penstock
