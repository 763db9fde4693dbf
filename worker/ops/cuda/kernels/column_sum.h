// Sums over the rows of a matrix, for the gradients of biases: in two steps of a fixed order, so that the same shape
// gives the same bits.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_COLUMN_SUM_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_COLUMN_SUM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// Parts that the rows are cut into; each one's sums stand in the workspace.
inline int64_t ColumnSumParts(int64_t rows) {
  const int64_t parts = (rows + 63) / 64;
  return parts < 128 ? parts : 128;
}
inline int64_t ColumnSumWorkspaceBytes(int64_t rows, int64_t width) {
  return ColumnSumParts(rows) * width * static_cast<int64_t>(sizeof(float));
}

// sums (width) = the sum over the rows of values (rows, width); with `add` that is added.
template <typename T>
cudaError_t ColumnSums(const T* values, int64_t rows, int64_t width, float* workspace, float* sums, bool add,
                       cudaStream_t stream);

// The second step: sums (width) over `parts` rows of partial (parts, width), or with `more` sums and that over rows of
// (parts, 2 width).
cudaError_t PartialSums(const float* partial, int64_t parts, int64_t width, float* sums, float* more, bool add,
                        cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_COLUMN_SUM_H_
