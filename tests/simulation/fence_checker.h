// Checks that a message of an epoch older than the sealed one changes nothing (invariant 4), and that an epoch is used
// by one coordinator only.
#pragma once

#include <cstdint>
#include <map>

#include "absl/strings/str_cat.h"
#include "tests/simulation/violations.h"

namespace penstock::simulation {

class FenceChecker {
 public:
  explicit FenceChecker(Violations& violations) : violations_(violations) {}

  void OnEvent(int shard, const char* message, uint64_t epoch, uint64_t sealed_before, bool changed_something) {
    if (epoch < sealed_before && changed_something) {
      violations_.Add("fence", absl::StrCat(message, " of epoch ", epoch, " took effect on shard ", shard,
                                            ", where epoch ", sealed_before, " is sealed"));
    }
  }
  void OnEpochUsed(int coordinator, uint64_t epoch) {
    const auto [user, fresh] = users_.try_emplace(epoch, coordinator);
    if (!fresh && user->second != coordinator) {
      violations_.Add("fence",
                      absl::StrCat("epoch ", epoch, " is used by coordinators ", user->second, " and ", coordinator));
    }
  }

 private:
  Violations& violations_;
  std::map<uint64_t, int> users_;
};

}  // namespace penstock::simulation
