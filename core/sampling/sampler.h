// Which token comes next: temperature, top-k and top-p over a model's logits, by counter-based random numbers. Pure.
#ifndef PENSTOCK_CORE_SAMPLING_SAMPLER_H_
#define PENSTOCK_CORE_SAMPLING_SAMPLER_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

inline constexpr double kTemperatureMax = 1000;

struct SamplingOptions {
  // Logits are divided by it; 0 takes the likeliest token.
  double temperature = 1;
  // Only the so many likeliest tokens; 0 means all.
  uint32_t top_k = 0;
  // Of these, the fewest likeliest ones that together have at least this share of their probability (Holtzman et al.
  // 2020, "The curious case of neural text degeneration"); 1 means all.
  double top_p = 1;
  uint64_t seed = 1;
};

// INVALID_ARGUMENT naming the option.
absl::Status CheckSampling(const SamplingOptions& options);

// The token at `position` of the sequence, a pure function of the logits, the options and the position. Of equal logits
// the lower token counts as likelier. INVALID_ARGUMENT for logits that aren't finite. `options` have passed
// CheckSampling; logits aren't empty.
absl::StatusOr<uint32_t> SampleToken(std::span<const float> logits, const SamplingOptions& options, uint64_t position);

}  // namespace penstock

#endif  // PENSTOCK_CORE_SAMPLING_SAMPLER_H_
