// Dropout; see worker/ops/dropout.h.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_DROPOUT_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_DROPOUT_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/random/dropout_rule.h"
#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// x, y (samples, elements); y may be x. T: float or Bf16.
template <typename T>
cudaError_t ApplyDropout(const DropoutRule& rule, uint64_t first_sample, uint32_t site, int64_t samples,
                         int64_t elements, const T* x, T* y, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_DROPOUT_H_
