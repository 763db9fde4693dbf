// Attention on tensor cores: bf16, heads of up to kTensorHeadDimMax.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_H_

#include <cuda_runtime_api.h>

#include "worker/ops/cuda/kernels/attention_sizes.h"
#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// As AttentionForward (attention.h).
cudaError_t TensorAttentionForward(const AttentionSizes& sizes, const Bf16* qkv, Bf16* out, float* log_sum_exp,
                                   cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_H_
