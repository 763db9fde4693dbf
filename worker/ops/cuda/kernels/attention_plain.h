// Attention on the ordinary cores, for fp32 and for heads that are too large for the tensor cores' tiles. T: float, or
// Bf16 with heads above kTensorHeadDimMax.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_PLAIN_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_PLAIN_H_

#include <cuda_runtime_api.h>

#include "worker/ops/cuda/kernels/attention_sizes.h"
#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// As AttentionForward (attention.h).
template <typename T>
cudaError_t PlainAttentionForward(const AttentionSizes& sizes, const T* qkv, T* out, float* log_sum_exp,
                                  cudaStream_t stream);

// As AttentionBackward, with `dot` computed.
template <typename T>
cudaError_t PlainAttentionBackward(const AttentionSizes& sizes, const T* qkv, const float* log_sum_exp, const T* dout,
                                   const float* dot, T* dqkv, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_PLAIN_H_
