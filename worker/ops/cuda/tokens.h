// Tokens that are outside a vocabulary, found on the device.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TOKENS_H_
#define PENSTOCK_WORKER_OPS_CUDA_TOKENS_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "worker/ops/context.h"

namespace penstock::cuda {

struct BadToken {
  int64_t index = 0;
  int32_t token = 0;
};

// What FindBadToken scribbles on.
inline constexpr int64_t kBadTokenBytes = 64;

// The first one outside [lowest, vocab_size). Waits for the stream: the host needs the answer.
absl::StatusOr<std::optional<BadToken>> FindBadToken(const OpContext& context, const int32_t* tokens, int64_t count,
                                                     int64_t lowest, int64_t vocab_size, std::byte* scratch);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_TOKENS_H_
