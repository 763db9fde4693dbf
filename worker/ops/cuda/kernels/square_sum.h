// Sums of squares of fixed pieces, for gradient norms; bit for bit what core/optimizer/square_sum.h computes.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace penstock::cuda {

// Of one launch: a kernel's arguments hold the list.
inline constexpr int kPiecesMax = 128;

struct PieceList {
  const float* values[kPiecesMax];
  int32_t sizes[kPiecesMax];
  int count;
};

// sums (pieces.count): each one's sum of squares, in double, added as SumOfSquares adds: 16 interleaved lanes from the
// piece's first value on, then a fixed tree.
cudaError_t SumsOfSquares(const PieceList& pieces, double* sums, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_
