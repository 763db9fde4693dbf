// Attention without the T×T matrix; see worker/ops/attention.h. T: float (strictly fp32, on the ordinary cores) or Bf16
// (products on the tensor cores for heads of up to kTensorHeadDimMax: probabilities and their gradients are rounded to
// bf16 there; sums and the softmax's statistics are fp32). The same bits in each run; nothing is atomic.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/attention_sizes.h"
#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// qkv (batch, seq, heads, 3, dim); out (batch, seq, heads, dim); log_sum_exp (batch, heads, seq).
template <typename T>
cudaError_t AttentionForward(const AttentionSizes& sizes, const T* qkv, T* out, float* log_sum_exp,
                             cudaStream_t stream);

// dot (batch, heads, seq) is scratch; writes dqkv (batch, seq, heads, 3, dim).
template <typename T>
cudaError_t AttentionBackward(const AttentionSizes& sizes, const T* qkv, const T* out, const float* log_sum_exp,
                              const T* dout, float* dot, T* dqkv, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_H_
