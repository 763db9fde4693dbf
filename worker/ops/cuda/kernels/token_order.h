// A batch's tokens grouped by token, each one's positions in their order: a stable counting sort by the tokens' bytes.
// Why not CUB's radix sort, which the toolkit has: the emulator can't run it, so it would be untested without a card,
// and the sort is a small part of a step. On a card CUB is what to measure this against.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_TOKEN_ORDER_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_TOKEN_ORDER_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace penstock::cuda {

inline constexpr int kOrderDigits = 256;
inline constexpr int kOrderChunk = 1024;  // tokens of a block

inline int64_t OrderChunks(int64_t count) { return (count + kOrderChunk - 1) / kOrderChunk; }
// Keys and positions twice, counts of each chunk's digits.
inline int64_t TokenOrderWorkspaceBytes(int64_t count) {
  return (4 * count + OrderChunks(count) * kOrderDigits) * static_cast<int64_t>(sizeof(int32_t));
}
// The bytes of keys up to `largest`: so many passes.
inline int OrderPasses(int64_t largest) {
  int passes = 1;
  while (largest >= kOrderDigits) {
    largest /= kOrderDigits;
    ++passes;
  }
  return passes;
}

struct TokenOrder {
  const int32_t* keys;       // (count), ascending: token - begin; end - begin for tokens outside [begin, end)
  const int32_t* positions;  // (count): where the key's token stands, ascending among equal keys
};

// tokens (count, up to 2^31 - 1). The result is in the workspace.
cudaError_t OrderTokens(const int32_t* tokens, int64_t count, int64_t begin, int64_t end, int32_t* workspace,
                        TokenOrder* order, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_TOKEN_ORDER_H_
