// Sums of columns over a part of the rows, in a fixed order: what kernels for parameters' gradients share.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_COLUMN_SUM_CUH_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_COLUMN_SUM_CUH_

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {

inline constexpr int kSumRows = 8;
inline constexpr int kSumColumns = kWarpThreads * kPack;  // of a block

// How a grid is cut: block (x, part) has kSumColumns columns and one part of the rows, by (kWarpThreads, kSumRows)
// threads.
inline dim3 ColumnSumGrid(int64_t width, int64_t parts) {
  return dim3(BlocksFor(width, kSumColumns), static_cast<unsigned>(parts));
}
inline dim3 ColumnSumBlock() { return dim3(kWarpThreads, kSumRows); }

// values(row, column, left, packs): a pack of each of kSums matrices (rows, width). Row `blockIdx.y` of each of
// partial (parts, width) gets the sums over the part's rows: every kSumRows-th row by a thread, in their order, then
// these threads' sums in theirs.
template <int kSums, typename Values>
__device__ inline void SumPart(const Values& values, int64_t rows, int64_t width, int64_t rows_per_part,
                               float* const (&partial)[kSums]) {
  __shared__ float others[kSums][kSumRows][kPack][kWarpThreads];
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kWarpThreads + threadIdx.x) * kPack;
  const int64_t left = width - column;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * rows_per_part;
  const int64_t end = begin + rows_per_part < rows ? begin + rows_per_part : rows;
  Pack sums[kSums] = {};
  for (int64_t row = begin + threadIdx.y; row < end && left > 0; row += kSumRows) {
    Pack packs[kSums];
    values(row, column, left, packs);
#pragma unroll
    for (int i = 0; i < kSums * kPack; ++i) sums[i / kPack].v[i % kPack] += packs[i / kPack].v[i % kPack];
  }
#pragma unroll
  for (int i = 0; i < kSums * kPack; ++i) {
    others[i / kPack][threadIdx.y][i % kPack][threadIdx.x] = sums[i / kPack].v[i % kPack];
  }
  __syncthreads();
  if (threadIdx.y != 0 || left <= 0) return;
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    for (int y = 1; y < kSumRows; ++y) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) sums[s].v[k] += others[s][y][k][threadIdx.x];
    }
    StorePack(partial[s] + blockIdx.y * width + column, sums[s], left, false);
  }
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_COLUMN_SUM_CUH_
