// The rounds of Philox4x32-10, inlined into vectorised loops and into kernels of a GPU. For core/random, and for what
// computes its numbers elsewhere.
#ifndef PENSTOCK_CORE_RANDOM_PHILOX_H_
#define PENSTOCK_CORE_RANDOM_PHILOX_H_

#include <cstdint>

// Of what a GPU's kernels use, too.
#if defined(__CUDACC__)
#define PENSTOCK_PHILOX_INLINE __host__ __device__ __forceinline__
#else
#define PENSTOCK_PHILOX_INLINE [[gnu::always_inline]] inline
#endif

namespace penstock::philox {

inline constexpr int kRounds = 10;
// Multipliers and Weyl constants of the paper.
inline constexpr uint32_t kMultiplier0 = 0xD2511F53;
inline constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
inline constexpr uint32_t kWeyl0 = 0x9E3779B9;
inline constexpr uint32_t kWeyl1 = 0xBB67AE85;

PENSTOCK_PHILOX_INLINE void Rounds(uint32_t& x0, uint32_t& x1, uint32_t& x2, uint32_t& x3, uint32_t key0,
                                   uint32_t key1) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * x0;
    const uint64_t product1 = uint64_t{kMultiplier1} * x2;
    const uint32_t y0 = static_cast<uint32_t>(product1 >> 32) ^ x1 ^ key0;
    const uint32_t y2 = static_cast<uint32_t>(product0 >> 32) ^ x3 ^ key1;
    x1 = static_cast<uint32_t>(product1);
    x3 = static_cast<uint32_t>(product0);
    x0 = y0;
    x2 = y2;
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
}

}  // namespace penstock::philox

#endif  // PENSTOCK_CORE_RANDOM_PHILOX_H_
