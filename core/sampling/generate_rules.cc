#include "core/sampling/generate_rules.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace penstock {

SamplingOptions SamplingOf(const v1::GenerateRequest& request) {
  SamplingOptions options;
  options.temperature = request.temperature();
  options.top_k = request.top_k();
  options.top_p = request.top_p();
  options.seed = request.seed();
  return options;
}

absl::Status CheckGenerate(const v1::GenerateRequest& request) {
  if (request.max_tokens() < 1 || request.max_tokens() > kGenerateTokensMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", request.max_tokens(), "; it should be 1 to ", kGenerateTokensMax));
  }
  const size_t prompt = std::max(request.prompt().size(), static_cast<size_t>(request.prompt_tokens_size()));
  if (prompt > kPromptTokensMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt has ", prompt, " tokens; at most ", kPromptTokensMax, " are taken"));
  }
  return CheckSampling(SamplingOf(request));
}

}  // namespace penstock
