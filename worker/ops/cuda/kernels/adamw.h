// AdamW on device memory; bit for bit what core/optimizer/adamw.h computes.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/adamw_element.h"
#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// gradient, weights, exp_avg, exp_avg_sq (count), of the same address modulo 16 bytes for the best speed. `rounded`
// (count) gets the new weights in bf16, to nearest even; or null.
cudaError_t AdamWUpdate(const AdamWConstants& constants, const float* gradient, float* weights, float* exp_avg,
                        float* exp_avg_sq, Bf16* rounded, int64_t count, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_H_
