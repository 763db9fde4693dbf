// Sums of squares of fixed pieces, for gradient norms; bit for bit what core/optimizer/square_sum.h computes.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace penstock::cuda {

struct SquarePiece {
  const float* values;
  int64_t size;
};

// pieces (count) and sums (count) on the device: each piece's sum of squares, in double, added as SumOfSquares adds: 16
// interleaved lanes from the piece's first value on, then a fixed tree.
cudaError_t SumsOfSquares(const SquarePiece* pieces, int64_t count, double* sums, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_
