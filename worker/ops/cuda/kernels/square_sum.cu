#include "worker/ops/cuda/kernels/square_sum.h"

#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kLanes = 16;  // of core/optimizer/square_sum.cc: part of the result's definition
constexpr int kPiecesPerBlock = 2;

// A lane of a piece is a thread, which adds its elements one after the other: half a warp reads 64 bytes at a time.
// Pieces are many (1900 for 124M parameters), so that the long chains of additions run beside each other.
__global__ void SquareSumKernel(PieceList pieces, double* sums) {
  __shared__ double lanes[kPiecesPerBlock][kLanes];
  const int lane = threadIdx.x % kLanes;
  const int slot = threadIdx.x / kLanes;
  const int piece = static_cast<int>(blockIdx.x) * kPiecesPerBlock + slot;
  if (piece < pieces.count) {
    const float* const values = pieces.values[piece];
    const int size = pieces.sizes[piece];
    double sum = 0;
#pragma unroll 8
    for (int i = lane; i < size; i += kLanes) {
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
  if (piece < pieces.count && lane == 0) sums[piece] = lanes[slot][0];
}

}  // namespace

cudaError_t SumsOfSquares(const PieceList& pieces, double* sums, cudaStream_t stream) {
  if (pieces.count == 0) return cudaSuccess;
  return Launch(SquareSumKernel, dim3(BlocksFor(pieces.count, kPiecesPerBlock)), dim3(kPiecesPerBlock * kLanes), 0,
                stream, pieces, sums);
}

}  // namespace penstock::cuda
