// The simulation's only source of chance: splitmix64 (Steele et al., 2014), so that a seed means the same on every
// machine and with every standard library.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace penstock::simulation {

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // In [0, n); n > 0.
  int Below(int n) { return static_cast<int>(Next() % static_cast<uint64_t>(n)); }
  // In [0, 1).
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  bool Chance(double probability) { return Unit() < probability; }
  absl::Duration Between(absl::Duration low, absl::Duration high) { return low + (high - low) * Unit(); }

 private:
  uint64_t state_;
};

}  // namespace penstock::simulation
