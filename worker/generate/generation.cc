#include "worker/generate/generation.h"

#include <algorithm>
#include <vector>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// Appends all tokens, which fit; logits of the last one.
absl::Status AppendAll(Gpt2Decoder& decoder, std::span<const int32_t> tokens, const GenerationOptions& options,
                       std::span<float> logits) {
  while (!tokens.empty()) {
    PENSTOCK_RETURN_IF_ERROR(options.check());
    const size_t rows = std::min(tokens.size(), static_cast<size_t>(Gpt2Decoder::kRowsMax));
    const bool last = rows == tokens.size();
    PENSTOCK_RETURN_IF_ERROR(decoder.Append(tokens.first(rows), last ? logits : std::span<float>()));
    tokens = tokens.subspan(rows);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunGeneration(Gpt2Decoder& decoder, std::span<const int32_t> prompt, const GenerationOptions& options) {
  PENSTOCK_CHECK(!prompt.empty());
  const auto positions = static_cast<size_t>(decoder.positions());
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  std::vector<float> logits(static_cast<size_t>(decoder.vocab_size()));
  decoder.Clear();
  PENSTOCK_RETURN_IF_ERROR(
      AppendAll(decoder, std::span(tokens).last(std::min(tokens.size(), positions)), options, logits));
  for (uint32_t count = 1;; ++count) {
    PENSTOCK_ASSIGN_OR_RETURN(const uint32_t token, SampleToken(logits, options.sampling, tokens.size()));
    tokens.push_back(static_cast<int32_t>(token));
    PENSTOCK_RETURN_IF_ERROR(options.on_token(token));
    if (count >= options.max_tokens) return absl::OkStatus();
    size_t fresh = 1;
    if (decoder.length() == decoder.positions()) {
      decoder.Clear();
      fresh = std::max<size_t>(positions / 2, 1);
    }
    PENSTOCK_RETURN_IF_ERROR(AppendAll(decoder, std::span(tokens).last(fresh), options, logits));
  }
}

}  // namespace penstock
