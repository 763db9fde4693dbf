#include "core/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/random/counter.h"

namespace penstock {
namespace {

// Uniform in [0, 1).
double Uniform(uint64_t seed, uint64_t position) {
  static const uint64_t stream = StreamId("generate");
  return static_cast<double>(RandomBits64(seed, stream, position) >> 11) * 0x1p-53;
}

}  // namespace

absl::Status CheckSampling(const SamplingOptions& options) {
  if (!(options.temperature >= 0 && options.temperature <= kTemperatureMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("temperature is ", options.temperature, "; it should be 0 to ", kTemperatureMax));
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("top_p is ", options.top_p, "; it should be above 0 and at most 1"));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> SampleToken(std::span<const float> logits, const SamplingOptions& options, uint64_t position) {
  PENSTOCK_CHECK(!logits.empty());
  for (const float logit : logits) {
    if (!std::isfinite(logit)) {
      return absl::InvalidArgumentError("the model's logits aren't finite: its weights are of no use");
    }
  }
  const auto likelier = [&logits](uint32_t a, uint32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::vector<uint32_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  if (options.temperature == 0) return *std::min_element(tokens.begin(), tokens.end(), likelier);
  const size_t kept = options.top_k == 0 ? tokens.size() : std::min<size_t>(options.top_k, tokens.size());
  std::partial_sort(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept), tokens.end(), likelier);
  tokens.resize(kept);

  std::vector<double> shares(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    shares[i] = std::exp((static_cast<double>(logits[tokens[i]]) - logits[tokens[0]]) / options.temperature);
    total += shares[i];
  }
  size_t nucleus = 0;
  double covered = 0;
  while (nucleus < kept && (nucleus == 0 || covered < options.top_p * total)) covered += shares[nucleus++];

  double left = Uniform(options.seed, position) * covered;
  for (size_t i = 0; i + 1 < nucleus; ++i) {
    left -= shares[i];
    if (left < 0) return tokens[i];
  }
  return tokens[nucleus - 1];
}

}  // namespace penstock
