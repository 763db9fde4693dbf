// Checks that versions don't mix (invariants 2 and 6): what a shard holds after step k, what a pull of version k
// answers and what a checkpoint of step k contains is, bit for bit, the undisturbed run's version k.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/layout/range.h"
#include "tests/simulation/training.h"
#include "tests/simulation/violations.h"

namespace penstock::simulation {

class VersionChecker {
 public:
  VersionChecker(Violations& violations, const Reference& reference) : violations_(violations), reference_(reference) {}

  void OnState(const std::string& who, uint64_t version, const ElementRange& range, const State& state) {
    if (version > reference_.steps() || !(reference_.state(version).Part(range.begin, range.end) == state)) {
      violations_.Add("version", absl::StrCat(who, " doesn't hold version ", version));
    }
  }
  void OnPulled(const std::string& who, uint64_t version, const ElementRange& range, int kind,
                const std::vector<double>& numbers) {
    if (version > reference_.steps() || !Equal(reference_.state(version).of_kind(kind), range, numbers)) {
      violations_.Add("version", absl::StrCat(who, " pulled something else than version ", version));
    }
  }

 private:
  static bool Equal(const std::vector<double>& whole, const ElementRange& range, const std::vector<double>& part) {
    return static_cast<int64_t>(part.size()) == range.size() &&
           std::equal(part.begin(), part.end(), whole.begin() + range.begin);
  }

  Violations& violations_;
  const Reference& reference_;
};

}  // namespace penstock::simulation
