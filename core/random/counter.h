// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as
// 1, 2, 3"). A number is a pure function of (seed, stream, index): no state, any order, any cut, the same bits.
#ifndef PENSTOCK_CORE_RANDOM_COUNTER_H_
#define PENSTOCK_CORE_RANDOM_COUNTER_H_

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/base/vector_isa.h"

namespace penstock {

// The bare generator: ten rounds on a 128-bit counter under a 64-bit key.
std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter, const std::array<uint32_t, 2>& key);

// Id of a named stream (64-bit FNV-1a): numbers of different purposes never share a counter.
uint64_t StreamId(std::string_view name);

// 32 uniform bits for each index: word (index % 4) of block (index / 4), whose counter is (block, stream) and whose key
// is the seed.
uint32_t RandomBits(uint64_t seed, uint64_t stream, uint64_t index);
// 64 bits: the block with counter (index, stream), first two words.
uint64_t RandomBits64(uint64_t seed, uint64_t stream, uint64_t index);

// Fills out[i] with the standard normal number of index `begin` + i (Box-Muller on the words of a block). Logarithm,
// square root and sine are computed here, from IEEE operations in a fixed order alone, so the bits don't depend on the
// C library, the instruction set or where the range is cut.
void FillNormal(uint64_t seed, uint64_t stream, uint64_t begin, std::span<float> out, VectorIsa isa = BestVectorIsa());

}  // namespace penstock

#endif  // PENSTOCK_CORE_RANDOM_COUNTER_H_
