// Layer normalisation and its gradients; see worker/ops/layer_norm.h. T: float or Bf16.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_LAYER_NORM_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_LAYER_NORM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/column_sum.h"

namespace penstock::cuda {

// x, y (rows, width); gamma, beta (width); mean, reciprocal_std (rows).
template <typename T>
cudaError_t LayerNormForward(const T* x, const T* gamma, const T* beta, int64_t rows, int64_t width, float epsilon,
                             T* y, float* mean, float* reciprocal_std, cudaStream_t stream);

// The same of sum = a + b (rows, width), which is written too.
template <typename T>
cudaError_t LayerNormForwardOfSum(const T* a, const T* b, T* sum, const T* gamma, const T* beta, int64_t rows,
                                  int64_t width, float epsilon, T* y, float* mean, float* reciprocal_std,
                                  cudaStream_t stream);

// Parts of the rows that gamma's and beta's gradients are summed up over one by one: two blocks for each multiprocessor
// of a large card, where there are enough rows.
inline int64_t LayerNormParts(int64_t rows) {
  const int64_t parts = (rows + 7) / 8;
  return parts < 256 ? parts : 256;
}
inline int64_t LayerNormWorkspaceBytes(int64_t rows, int64_t width) {
  const int64_t bytes = 2 * LayerNormParts(rows) * width * static_cast<int64_t>(sizeof(float));
  const int64_t wide_bytes = 2 * ColumnSumWorkspaceBytes(rows, width);
  return bytes > wide_bytes ? bytes : wide_bytes;
}
// Adds to dx (rows, width); writes dgamma and dbeta (width), or with `add` adds to them.
template <typename T>
cudaError_t LayerNormBackward(const T* x, const T* gamma, const float* mean, const float* reciprocal_std, const T* dy,
                              int64_t rows, int64_t width, float* workspace, T* dx, float* dgamma, float* dbeta,
                              bool add, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_LAYER_NORM_H_
