// A random permutation of [0, n) in constant memory: a Feistel network of keyed rounds on the next even number of bits,
// and cycle walking for the values beyond n (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
//
// A pure function of (n, seed, epoch). A value; safe to use from any thread.
#ifndef PENSTOCK_CORE_RANDOM_PERMUTATION_H_
#define PENSTOCK_CORE_RANDOM_PERMUTATION_H_

#include <array>
#include <cstdint>

namespace penstock {

class Permutation {
 public:
  // Different epochs of one seed are unrelated permutations. n >= 1.
  Permutation(uint64_t n, uint64_t seed, uint64_t epoch);

  uint64_t size() const { return n_; }
  // Where `index` in [0, size()) goes.
  uint64_t operator()(uint64_t index) const;

 private:
  static constexpr int kRounds = 8;

  uint64_t Encrypt(uint64_t value) const;

  uint64_t n_;
  // Bits of half a value.
  int half_bits_;
  std::array<uint64_t, kRounds> round_keys_;
};

}  // namespace penstock

#endif  // PENSTOCK_CORE_RANDOM_PERMUTATION_H_
