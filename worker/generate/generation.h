// The loop of a generation: the prompt, then one token after the other.
//
// A model has a fixed number of positions. When they are full the last half of the tokens is taken as a new beginning,
// so that a text may be longer than what the model sees at once. Not synchronised: one call at a time for a decoder.
#ifndef PENSTOCK_WORKER_GENERATE_GENERATION_H_
#define PENSTOCK_WORKER_GENERATE_GENERATION_H_

#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "core/sampling/sampler.h"
#include "worker/generate/gpt2_decoder.h"

namespace penstock {

struct GenerationOptions {
  SamplingOptions sampling;
  uint32_t max_tokens = 0;
  // Asked between any two passes over the weights; what it returns ends the generation.
  std::function<absl::Status()> check;
  // Each token as it is chosen.
  std::function<absl::Status(uint32_t)> on_token;
};

// A prompt has at least one token; of one longer than the model's positions only the end is seen. The tokens depend on
// weights, prompt and sampling options alone.
absl::Status RunGeneration(Gpt2Decoder& decoder, std::span<const int32_t> prompt, const GenerationOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_GENERATE_GENERATION_H_
