// What makes sure that tokens are in the vocabulary: on the host, where they come from, so that no operation has to
// wait for a device to say so.
//
// Thread-safe: pure functions.
#ifndef PENSTOCK_WORKER_OPS_TOKEN_CHECKS_H_
#define PENSTOCK_WORKER_OPS_TOKEN_CHECKS_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/ops/loss.h"

namespace penstock {

// tokens (B, T). INVALID_ARGUMENT names the first one that isn't.
inline absl::Status CheckTokens(std::span<const int32_t> tokens, int64_t seq_length, int64_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab_size) continue;
    const int64_t at = static_cast<int64_t>(i);
    return absl::InvalidArgumentError(
        absl::StrCat("token ", tokens[i], " at position ", at % seq_length, " of sample ", at / seq_length,
                     " of the micro-batch is outside the vocabulary: expected 0 to ", vocab_size - 1));
  }
  return absl::OkStatus();
}

// Likewise; kIgnoredTarget is one, too.
inline absl::Status CheckTargets(std::span<const int32_t> targets, int64_t vocab_size) {
  for (size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] == kIgnoredTarget || (targets[row] >= 0 && targets[row] < vocab_size)) continue;
    return absl::InvalidArgumentError(absl::StrCat("target ", targets[row], " of row ", row,
                                                   " is outside the vocabulary: expected 0 to ", vocab_size - 1,
                                                   ", or ", kIgnoredTarget, " for none"));
  }
  return absl::OkStatus();
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_TOKEN_CHECKS_H_
