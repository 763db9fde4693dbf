#include "core/base/bfloat16.h"

#include <cstddef>

#include "core/base/status_macros.h"

namespace penstock {

void ToBfloat16(std::span<const float> from, std::span<Bfloat16> to) {
  PENSTOCK_CHECK(from.size() == to.size());
  const float* __restrict in = from.data();
  Bfloat16* __restrict out = to.data();
  for (size_t i = 0; i < from.size(); ++i) out[i] = ToBfloat16(in[i]);
}

void ToFloat(std::span<const Bfloat16> from, std::span<float> to) {
  PENSTOCK_CHECK(from.size() == to.size());
  const Bfloat16* __restrict in = from.data();
  float* __restrict out = to.data();
  for (size_t i = 0; i < from.size(); ++i) out[i] = ToFloat(in[i]);
}

}  // namespace penstock
