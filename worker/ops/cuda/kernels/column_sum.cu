#include "worker/ops/cuda/kernels/column_sum.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kColumns = 32;
constexpr int kRows = 8;
constexpr int kThreads = 256;

// Block (x, part): the sums of kColumns columns over the part's rows.
template <typename T>
__global__ void ColumnSumKernel(const T* values, int64_t rows, int64_t width, int64_t rows_per_part, float* partial) {
  __shared__ float sums[kRows][kColumns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * rows_per_part;
  const int64_t end = begin + rows_per_part < rows ? begin + rows_per_part : rows;
  float sum = 0;
  if (column < width) {
    for (int64_t row = begin + threadIdx.y; row < end; row += kRows) sum += Load(values + row * width + column);
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int k = 1; k < kRows; ++k) sum += sums[k][threadIdx.x];
  partial[blockIdx.y * width + column] = sum;
}

__global__ void PartialSumKernel(const float* partial, int64_t parts, int64_t width, float* sums) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= width) return;
  float sum = 0;
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * width + column];
  sums[column] += sum;
}

}  // namespace

template <typename T>
cudaError_t AddColumnSums(const T* values, int64_t rows, int64_t width, float* workspace, float* sums,
                          cudaStream_t stream) {
  const int64_t rows_per_part = BlocksFor(rows, ColumnSumParts(rows));
  const int64_t parts = BlocksFor(rows, rows_per_part);
  const cudaError_t error = Launch(ColumnSumKernel<T>, dim3(BlocksFor(width, kColumns), static_cast<unsigned>(parts)),
                                   dim3(kColumns, kRows), 0, stream, values, rows, width, rows_per_part, workspace);
  return error != cudaSuccess ? error : AddPartialSums(workspace, parts, width, sums, stream);
}

cudaError_t AddPartialSums(const float* partial, int64_t parts, int64_t width, float* sums, cudaStream_t stream) {
  return Launch(PartialSumKernel, dim3(BlocksFor(width, kThreads)), dim3(kThreads), 0, stream, partial, parts, width,
                sums);
}

template cudaError_t AddColumnSums(const float*, int64_t, int64_t, float*, float*, cudaStream_t);
template cudaError_t AddColumnSums(const Bf16*, int64_t, int64_t, float*, float*, cudaStream_t);

}  // namespace penstock::cuda
