// What a request to generate may ask for: the same on the coordinator and on a worker. Pure.
#ifndef PENSTOCK_CORE_SAMPLING_GENERATE_RULES_H_
#define PENSTOCK_CORE_SAMPLING_GENERATE_RULES_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "core/sampling/sampler.h"
#include "protos/penstock/v1/generate.pb.h"

namespace penstock {

// Tokens of one generation; more is many generations.
inline constexpr uint32_t kGenerateTokensMax = 100'000;
// Of a prompt, in tokens; far more than a model sees at once.
inline constexpr size_t kPromptTokensMax = size_t{1} << 20;

SamplingOptions SamplingOf(const v1::GenerateRequest& request);

// INVALID_ARGUMENT naming what is out of range. Says nothing about the source.
absl::Status CheckGenerate(const v1::GenerateRequest& request);

}  // namespace penstock

#endif  // PENSTOCK_CORE_SAMPLING_GENERATE_RULES_H_
