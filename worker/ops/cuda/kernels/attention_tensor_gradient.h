// The gradient of attention on tensor cores: bf16, heads of up to kTensorHeadDimMax.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_GRADIENT_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_GRADIENT_H_

#include <cuda_runtime_api.h>

#include "worker/ops/cuda/kernels/attention_sizes.h"
#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// As AttentionBackward (attention.h), with `dot` computed.
cudaError_t TensorAttentionBackward(const AttentionSizes& sizes, const Bf16* qkv, const float* log_sum_exp,
                                    const Bf16* dout, const float* dot, Bf16* dqkv, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_GRADIENT_H_
