#include "worker/ops/cuda/kernels/square_sum.h"

#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kLanes = 16;  // of core/optimizer/square_sum.cc: part of the result's definition
constexpr int kPiecesPerBlock = 8;

// A lane of a piece is a thread, which adds its elements one after the other: half a warp reads 64 bytes at a time.
// Pieces are many (1900 for 124M parameters), so that the long chains of additions run beside each other.
__global__ void SquareSumKernel(const float* values, int64_t begin, int64_t count, int64_t piece_elements,
                                int64_t pieces, double* sums) {
  __shared__ double lanes[kPiecesPerBlock][kLanes];
  const int lane = threadIdx.x % kLanes;
  const int slot = threadIdx.x / kLanes;
  const int64_t piece = static_cast<int64_t>(blockIdx.x) * kPiecesPerBlock + slot;
  if (piece < pieces) {
    const int64_t window = (begin / piece_elements + piece) * piece_elements;
    const int64_t from = window > begin ? window - begin : 0;
    const int64_t to = window + piece_elements < begin + count ? window + piece_elements - begin : count;
    double sum = 0;
#pragma unroll 8
    for (int64_t i = from + lane; i < to; i += kLanes) {
      const double value = values[i];
      sum = sum + value * value;  // the square is exact: fusing or not gives the same bits
    }
    lanes[slot][lane] = sum;
  }
  __syncthreads();
  for (int width = kLanes / 2; width > 0; width /= 2) {
    if (lane < width) lanes[slot][lane] += lanes[slot][lane + width];
    __syncthreads();
  }
  if (piece < pieces && lane == 0) sums[piece] = lanes[slot][0];
}

}  // namespace

cudaError_t SumOfSquaresByPiece(const float* values, int64_t begin, int64_t count, int64_t piece_elements, double* sums,
                                cudaStream_t stream) {
  const int64_t pieces = PiecesOf(begin, count, piece_elements);
  if (pieces == 0) return cudaSuccess;
  return Launch(SquareSumKernel, dim3(BlocksFor(pieces, kPiecesPerBlock)), dim3(kPiecesPerBlock * kLanes), 0, stream,
                values, begin, count, piece_elements, pieces, sums);
}

}  // namespace penstock::cuda
