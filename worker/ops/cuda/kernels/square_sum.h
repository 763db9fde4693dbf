// Sums of squares by fixed pieces, for gradient norms; bit for bit what core/optimizer/square_sum.h computes.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace penstock::cuda {

// Pieces are windows of piece_elements of a space in which values (count) begin at element `begin`; those at the two
// ends may be cut. sums (PiecesOf(begin, count, piece_elements)): the sum of each one's squares, in double, added as
// SumOfSquares adds: 16 interleaved lanes from the piece's first value on, then a fixed tree.
cudaError_t SumOfSquaresByPiece(const float* values, int64_t begin, int64_t count, int64_t piece_elements, double* sums,
                                cudaStream_t stream);

inline int64_t PiecesOf(int64_t begin, int64_t count, int64_t piece_elements) {
  return count == 0 ? 0 : (begin + count - 1) / piece_elements - begin / piece_elements + 1;
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_SQUARE_SUM_H_
