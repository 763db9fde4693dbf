#include "worker/ops/cuda/kernels/ordered_sum.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;

// A pack for each thread.
__global__ void AddInOrderKernel(float* own, int64_t count, const float* others, int64_t stride, int n, int own_index,
                                 bool aligned) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack;
  const int64_t left = count - first;
  if (left <= 0) return;
  const Pack mine = LoadPack(own + first, left, aligned);
  // The group's member k: those behind own_index stand one earlier in `others`.
  const auto member = [&](int k) {
    return k == own_index ? mine : LoadPack(others + (k < own_index ? k : k - 1) * stride + first, left, aligned);
  };
  Pack sum = member(0);
  for (int k = 1; k <= n; ++k) {
    const Pack next = member(k);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum.v[i] = sum.v[i] + next.v[i];
  }
  StorePack(own + first, sum, left, aligned);
}

}  // namespace

cudaError_t AddInOrder(float* own, int64_t count, const float* others, int64_t stride, int n, int own_index,
                       cudaStream_t stream) {
  if (count == 0 || n == 0) return cudaSuccess;
  return Launch(AddInOrderKernel, dim3(BlocksFor(count, kThreads * kPack)), dim3(kThreads), 0, stream, own, count,
                others, stride, n, own_index, PacksAligned(stride, own, others));
}

}  // namespace penstock::cuda
