#include "core/random/dropout_rule.h"

#include <algorithm>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/random/counter.h"

namespace penstock {

DropoutRule DropoutRuleOf(double probability, uint64_t seed) {
  PENSTOCK_CHECK(probability >= 0 && probability < 1);
  constexpr double kSteps = 1 << 16;
  // Not the key of what else the seed stands for.
  const uint64_t key = RandomBits64(seed, StreamId("dropout"), 0);
  const double keep = std::max(1.0, std::round((1 - probability) * kSteps));
  return {.key0 = static_cast<uint32_t>(key),
          .key1 = static_cast<uint32_t>(key >> 32),
          .keep = static_cast<uint32_t>(keep),
          .scale = static_cast<float>(kSteps / keep)};
}

}  // namespace penstock
