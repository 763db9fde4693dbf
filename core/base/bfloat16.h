// bfloat16: the upper half of an fp32. Rounded to nearest, ties to even; a NaN stays one.
//
// Thread-safe: pure functions. The same bits on every processor.
#ifndef PENSTOCK_CORE_BASE_BFLOAT16_H_
#define PENSTOCK_CORE_BASE_BFLOAT16_H_

#include <bit>
#include <cstdint>
#include <span>

namespace penstock {

struct Bfloat16 {
  uint16_t bits = 0;

  friend bool operator==(const Bfloat16&, const Bfloat16&) = default;
};
static_assert(sizeof(Bfloat16) == 2);

inline Bfloat16 ToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  // Rounding could carry a NaN's bits into infinity: keep them and make it a quiet one.
  const uint32_t nan = (bits >> 16) | 0x40;
  return {static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? nan : rounded)};
}

inline float ToFloat(Bfloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

// Whole spans of the same size, which don't overlap.
void ToBfloat16(std::span<const float> from, std::span<Bfloat16> to);
void ToFloat(std::span<const Bfloat16> from, std::span<float> to);

}  // namespace penstock

#endif  // PENSTOCK_CORE_BASE_BFLOAT16_H_
