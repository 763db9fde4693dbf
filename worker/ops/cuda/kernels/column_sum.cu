#include "worker/ops/cuda/kernels/column_sum.h"

#include "worker/ops/cuda/kernels/column_sum.cuh"

namespace penstock::cuda {
namespace {

constexpr int kPartialRows = 16;

template <typename T>
__global__ void ColumnSumKernel(const T* values, int64_t rows, int64_t width, int64_t rows_per_part, bool aligned,
                                float* partial) {
  SumPart<1>([&](int64_t row, int64_t column, int64_t left, auto whole,
                 Pack(&packs)[1]) { packs[0] = LoadPackIf(whole, values + row * width + column, left); },
             rows, width, rows_per_part, aligned, {partial});
}

// A block has kWarpThreads columns; its rows of threads take the parts by turns, and their sums are added in their
// order.
__global__ void PartialSumKernel(const float* partial, int64_t parts, int64_t width, float* sums, float* more,
                                 bool add) {
  __shared__ float others[kPartialRows][kWarpThreads];
  const int64_t columns = more == nullptr ? width : 2 * width;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarpThreads + threadIdx.x;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (int64_t part = threadIdx.y; part < parts; part += kPartialRows) sum += partial[part * columns + column];
  }
  others[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int y = 1; y < kPartialRows; ++y) sum += others[y][threadIdx.x];
  float* const to = column < width ? sums + column : more + column - width;
  *to = (add ? *to : 0.0F) + sum;  // a sum of -0 becomes 0 either way
}

}  // namespace

template <typename T>
cudaError_t ColumnSums(const T* values, int64_t rows, int64_t width, float* workspace, float* sums, bool add,
                       cudaStream_t stream) {
  const int64_t rows_per_part = BlocksFor(rows, ColumnSumParts(rows));
  const int64_t parts = BlocksFor(rows, rows_per_part);
  const cudaError_t error = Launch(ColumnSumKernel<T>, ColumnSumGrid(width, parts), ColumnSumBlock(), 0, stream, values,
                                   rows, width, rows_per_part, PacksAligned(width, values), workspace);
  return error != cudaSuccess ? error : PartialSums(workspace, parts, width, sums, nullptr, add, stream);
}

cudaError_t PartialSums(const float* partial, int64_t parts, int64_t width, float* sums, float* more, bool add,
                        cudaStream_t stream) {
  const int64_t columns = more == nullptr ? width : 2 * width;
  return Launch(PartialSumKernel, dim3(BlocksFor(columns, kWarpThreads)), dim3(kWarpThreads, kPartialRows), 0, stream,
                partial, parts, width, sums, more, add);
}

template cudaError_t ColumnSums(const float*, int64_t, int64_t, float*, float*, bool, cudaStream_t);
template cudaError_t ColumnSums(const Bf16*, int64_t, int64_t, float*, float*, bool, cudaStream_t);

}  // namespace penstock::cuda
