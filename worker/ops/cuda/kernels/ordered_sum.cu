#include "worker/ops/cuda/kernels/ordered_sum.h"

#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void AddInOrderKernel(float* own, int64_t count, const float* others, int64_t stride, int n, int own_index) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = own_index == 0 ? own[i] : others[i];
  for (int k = 1; k <= n; ++k) {
    // The group's member k: those behind own_index stand one earlier in `others`.
    const float next = k == own_index ? own[i] : others[(k < own_index ? k : k - 1) * stride + i];
    sum = sum + next;
  }
  own[i] = sum;
}

}  // namespace

cudaError_t AddInOrder(float* own, int64_t count, const float* others, int64_t stride, int n, int own_index,
                       cudaStream_t stream) {
  if (count == 0 || n == 0) return cudaSuccess;
  return Launch(AddInOrderKernel, dim3(BlocksFor(count, kThreads)), dim3(kThreads), 0, stream, own, count, others,
                stride, n, own_index);
}

}  // namespace penstock::cuda
