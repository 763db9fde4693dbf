// Token plus position embedding and its gradients; see worker/ops/embedding.h. T: float or Bf16.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_EMBEDDING_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_EMBEDDING_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/bf16.h"
#include "worker/ops/cuda/kernels/token_order.h"

namespace penstock::cuda {

struct EmbeddingSizes {
  int64_t batch;
  int64_t seq_length;
  int64_t hidden;
  // The rows of wte that are here; other tokens count as zeros.
  int64_t vocab_begin;
  int64_t vocab_end;
};

// tokens (batch, seq_length), wte (vocab_end - vocab_begin, hidden), wpe (seq_length or more, hidden) or null; writes x
// (batch, seq_length, hidden).
template <typename T>
cudaError_t EmbeddingForward(const EmbeddingSizes& sizes, const int32_t* tokens, const T* wte, const T* wpe, T* x,
                             cudaStream_t stream);

// What EmbeddingBackward needs for `count` tokens.
inline int64_t EmbeddingWorkspaceBytes(int64_t count) { return TokenOrderWorkspaceBytes(count); }

// Adds to dwte and dwpe (or null), each row's contributions in the order of (b, t): the bits of adding one token after
// the other.
template <typename T>
cudaError_t EmbeddingBackward(const EmbeddingSizes& sizes, const int32_t* tokens, const T* dx, int32_t* workspace,
                              float* dwte, float* dwpe, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_EMBEDDING_H_
