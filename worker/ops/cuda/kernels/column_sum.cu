#include "worker/ops/cuda/kernels/column_sum.h"

#include "worker/ops/cuda/kernels/column_sum.cuh"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void ColumnSumKernel(const T* values, int64_t rows, int64_t width, int64_t rows_per_part, bool aligned,
                                float* partial) {
  SumPart<1>([&](int64_t row, int64_t column, int64_t left,
                 Pack(&packs)[1]) { packs[0] = LoadPack(values + row * width + column, left, aligned); },
             rows, width, rows_per_part, {partial});
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
  const cudaError_t error = Launch(ColumnSumKernel<T>, ColumnSumGrid(width, parts), ColumnSumBlock(), 0, stream, values,
                                   rows, width, rows_per_part, PacksAligned(width, values), workspace);
  return error != cudaSuccess ? error : AddPartialSums(workspace, parts, width, sums, stream);
}

cudaError_t AddPartialSums(const float* partial, int64_t parts, int64_t width, float* sums, cudaStream_t stream) {
  return Launch(PartialSumKernel, dim3(BlocksFor(width, kThreads)), dim3(kThreads), 0, stream, partial, parts, width,
                sums);
}

template cudaError_t AddColumnSums(const float*, int64_t, int64_t, float*, float*, cudaStream_t);
template cudaError_t AddColumnSums(const Bf16*, int64_t, int64_t, float*, float*, cudaStream_t);

}  // namespace penstock::cuda
