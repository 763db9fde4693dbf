// A lane of a piece is a thread, which adds its elements one after the other, so a block is a warp with two pieces.
// What a chain of additions waits for is memory: each piece has some steps of 1 KB on the way into shared memory while
// one is added up. 1900 pieces (124M parameters) have 5.7 MB on the way, where an H200 needs 3.4 MB (4.8 TB/s, 700 ns).
#include "worker/ops/cuda/kernels/square_sum.h"

#include "worker/ops/cuda/kernels/launch.h"
#include "worker/ops/cuda/kernels/mma.cuh"

namespace penstock::cuda {
namespace {

constexpr int kLanes = 16;  // of core/optimizer/square_sum.cc: part of the result's definition
constexpr int kPiecesPerBlock = kWarpThreads / kLanes;
constexpr int kStepFloats = 256;
constexpr int kSteps = 4;  // of which one is added up

// Floats [begin, begin + kStepFloats) of a piece, zeros behind its end, by its own lanes.
__device__ inline void CopyStep(const SquarePiece& piece, int64_t begin, int lane, float* to) {
  const bool whole = begin + kStepFloats <= piece.size;
  if (whole && reinterpret_cast<uintptr_t>(piece.values) % 16 == 0) {
#pragma unroll
    for (int i = lane * 4; i < kStepFloats; i += kLanes * 4) CopyAsync16(to + i, piece.values + begin + i, true);
  } else {
#pragma unroll
    for (int i = lane; i < kStepFloats; i += kLanes) {
      const bool inside = begin + i < piece.size;
      CopyAsync4(to + i, inside ? piece.values + begin + i : piece.values, inside);
    }
  }
  CommitCopies();
}

__global__ void SquareSumKernel(const SquarePiece* pieces, int64_t count, double* sums) {
  // The pieces' lanes read different banks.
  constexpr int kPitch = kSteps * kStepFloats + kLanes;
  PENSTOCK_DYNAMIC_SHARED(float, shared);
  __shared__ double lanes[kPiecesPerBlock][kLanes];
  const int lane = threadIdx.x % kLanes;
  const int slot = threadIdx.x / kLanes;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kPiecesPerBlock;
  // A piece too many is an empty one.
  const SquarePiece mine = first + slot < count ? pieces[first + slot] : SquarePiece{pieces[first].values, 0};
  int64_t longest = 0;  // of the warp's pieces, which go on together
  for (int i = 0; i < kPiecesPerBlock && first + i < count; ++i) {
    longest = pieces[first + i].size > longest ? pieces[first + i].size : longest;
  }
  float* const steps = shared + slot * kPitch;
  for (int i = 0; i < kSteps - 1; ++i) CopyStep(mine, i * kStepFloats, lane, steps + i * kStepFloats);
  double sum = 0;
  int step = 0;
  for (int64_t begin = 0; begin < longest; begin += kStepFloats, step = (step + 1) % kSteps) {
    WaitForCopies<kSteps - 2>();
    __syncwarp();  // this step is there for all lanes, and the one before it has been used by all
    const int next = (step + kSteps - 1) % kSteps;
    CopyStep(mine, begin + (kSteps - 1) * kStepFloats, lane, steps + next * kStepFloats);
    const float* const here = steps + step * kStepFloats;
#pragma unroll
    for (int i = lane; i < kStepFloats; i += kLanes) {
      const double value = here[i];
      sum = sum + value * value;  // the square is exact: fusing or not gives the same bits; a zero behind the end none
    }
  }
  lanes[slot][lane] = sum;
  __syncwarp();
  for (int width = kLanes / 2; width > 0; width /= 2) {
    if (lane < width) lanes[slot][lane] += lanes[slot][lane + width];
    __syncwarp();
  }
  if (first + slot < count && lane == 0) sums[first + slot] = lanes[slot][0];
}

}  // namespace

cudaError_t SumsOfSquares(const SquarePiece* pieces, int64_t count, double* sums, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  constexpr size_t kBytes = kPiecesPerBlock * (kSteps * kStepFloats + kLanes) * sizeof(float);
  return Launch(SquareSumKernel, dim3(BlocksFor(count, kPiecesPerBlock)), dim3(kWarpThreads), kBytes, stream, pieces,
                count, sums);
}

}  // namespace penstock::cuda
