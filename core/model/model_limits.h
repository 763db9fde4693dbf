// The largest sizes that a model may have. They are far above what a cluster can hold; their point is that no product
// of sizes overflows 64-bit arithmetic and that a typing error is refused early, by name.
#ifndef PENSTOCK_CORE_MODEL_MODEL_LIMITS_H_
#define PENSTOCK_CORE_MODEL_MODEL_LIMITS_H_

#include <cstdint>

namespace penstock {

inline constexpr uint32_t kLayersMax = 4096;
inline constexpr uint32_t kHiddenMax = 1u << 16;
inline constexpr uint32_t kHeadsMax = 1u << 12;
inline constexpr uint32_t kSeqLengthMax = 1u << 17;
inline constexpr uint32_t kVocabSizeMax = 1u << 22;
inline constexpr uint32_t kMlpHiddenMax = 1u << 19;
// Elements of the canonical space.
inline constexpr int64_t kElementsMax = int64_t{1} << 44;

// 12 bytes of state for each element, and again that much of slack, stay far from 2^63.
static_assert(kElementsMax < (int64_t{1} << 62) / 64);
// The biggest layer alone: 4 h^2 + 2 h f elements.
static_assert(4 * int64_t{kHiddenMax} * kHiddenMax + 2 * int64_t{kHiddenMax} * kMlpHiddenMax < kElementsMax);

}  // namespace penstock

#endif  // PENSTOCK_CORE_MODEL_MODEL_LIMITS_H_
