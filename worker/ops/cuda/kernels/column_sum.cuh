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

// values(row, column, left, whole, packs): a pack of each of kSums matrices (rows, width); `whole` is a constant that
// says whether it is there as a whole and may be moved by 16 bytes, as `aligned` says of all. Row `blockIdx.y` of each
// of partial (parts, width) gets the sums over the part's rows: every kSumRows-th row by a thread, in their order, then
// these threads' sums in theirs. A thread has the loads of kSumAhead rows on their way at once.
inline constexpr int kSumAhead = 4;

template <int kSums, bool kWhole, typename Values>
__device__ __forceinline__ void AddRowsOfPart(const Values& values, int64_t begin, int64_t end, int64_t column,
                                              int64_t left, Pack (&sums)[kSums]) {
  constexpr Known<kWhole> whole;
  const auto add = [&](const Pack(&packs)[kSums]) {
#pragma unroll
    for (int i = 0; i < kSums * kPack; ++i) sums[i / kPack].v[i % kPack] += packs[i / kPack].v[i % kPack];
  };
  int64_t row = begin + threadIdx.y;
  for (; row + (kSumAhead - 1) * kSumRows < end; row += kSumAhead * kSumRows) {
    Pack packs[kSumAhead][kSums];
#pragma unroll
    for (int a = 0; a < kSumAhead; ++a) values(row + a * kSumRows, column, left, whole, packs[a]);
#pragma unroll
    for (int a = 0; a < kSumAhead; ++a) add(packs[a]);
  }
  for (; row < end; row += kSumRows) {
    Pack packs[kSums];
    values(row, column, left, whole, packs);
    add(packs);
  }
}

template <int kSums, typename Values>
__device__ inline void SumPart(const Values& values, int64_t rows, int64_t width, int64_t rows_per_part, bool aligned,
                               float* const (&partial)[kSums]) {
  __shared__ float others[kSums][kSumRows][kPack][kWarpThreads];
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kWarpThreads + threadIdx.x) * kPack;
  const int64_t left = width - column;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * rows_per_part;
  const int64_t end = begin + rows_per_part < rows ? begin + rows_per_part : rows;
  Pack sums[kSums] = {};
  if (left > 0) {
    if (aligned) {
      AddRowsOfPart<kSums, true>(values, begin, end, column, left, sums);
    } else {
      AddRowsOfPart<kSums, false>(values, begin, end, column, left, sums);
    }
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

// A pack that is there as a whole, or of which `left` values are.
template <typename T>
__device__ __forceinline__ Pack LoadPackIf(Known<true>, const T* at, int64_t) {
  return LoadWholePack(at);
}
template <typename T>
__device__ __forceinline__ Pack LoadPackIf(Known<false>, const T* at, int64_t left) {
  return LoadPack(at, left, false);
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_COLUMN_SUM_CUH_
