#include "core/random/permutation.h"

#include <bit>

#include "core/base/status_macros.h"
#include "core/random/counter.h"

namespace penstock {
namespace {

// The finaliser of MurmurHash3: every bit of the input reaches every bit of the output.
uint64_t Mix(uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccd;
  value ^= value >> 33;
  value *= 0xc4ceb9fe1a85ec53;
  value ^= value >> 33;
  return value;
}

}  // namespace

Permutation::Permutation(uint64_t n, uint64_t seed, uint64_t epoch) : n_(n) {
  PENSTOCK_CHECK(n >= 1);
  // At least two values a half: a network on no bits would have nothing to mix.
  half_bits_ = n <= 4 ? 1 : (std::bit_width(n - 1) + 1) / 2;
  const uint64_t stream = StreamId("permutation");
  for (int round = 0; round < kRounds; ++round) {
    round_keys_[static_cast<size_t>(round)] = RandomBits64(seed, stream + static_cast<uint64_t>(round), epoch);
  }
}

uint64_t Permutation::Encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_;
  uint64_t right = value & mask;
  for (const uint64_t key : round_keys_) {
    const uint64_t mixed = left ^ (Mix(right + key) & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

uint64_t Permutation::operator()(uint64_t index) const {
  PENSTOCK_CHECK(index < n_);
  // The network permutes fewer than 4 n values, so a walk along its cycle comes back below n after 4 rounds on average.
  uint64_t value = Encrypt(index);
  while (value >= n_) value = Encrypt(value);
  return value;
}

}  // namespace penstock
