#include "worker/ops/cuda/tokens.h"

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/host_wait.h"
#include "worker/ops/cuda/kernels/embedding.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {

absl::StatusOr<std::optional<BadToken>> FindBadToken(const OpContext& context, const int32_t* tokens, int64_t count,
                                                     int64_t lowest, int64_t vocab_size, std::byte* scratch) {
  const cudaStream_t stream = StreamOf(context);
  auto* const first = reinterpret_cast<unsigned long long*>(scratch);
  PENSTOCK_RETURN_IF_ERROR(ToStatus(CheckTokens(tokens, count, lowest, vocab_size, first, stream), "checking tokens"));
  unsigned long long found = kAllGood;
  PENSTOCK_RETURN_IF_ERROR(
      ToStatus(cudaMemcpyAsync(&found, first, sizeof(found), cudaMemcpyDefault, stream), "checking tokens"));
  PENSTOCK_RETURN_IF_ERROR(WaitForStream(stream, "checking tokens"));
  if (found == kAllGood) return std::nullopt;
  BadToken bad = {.index = static_cast<int64_t>(found), .token = 0};
  PENSTOCK_RETURN_IF_ERROR(
      ToStatus(cudaMemcpyAsync(&bad.token, tokens + bad.index, sizeof(bad.token), cudaMemcpyDefault, stream),
               "a token outside the vocabulary"));
  PENSTOCK_RETURN_IF_ERROR(WaitForStream(stream, "a token outside the vocabulary"));
  return bad;
}

}  // namespace penstock::cuda
