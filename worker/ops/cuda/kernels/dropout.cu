#include "worker/ops/cuda/kernels/dropout.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;
static_assert(kPack == kDropoutBlock);

// A pack, which is a block of the rule's bits, for each thread; `packs` of a sample. Not __restrict__: y may be x.
template <typename T>
__global__ void DropoutKernel(DropoutRule rule, uint64_t first_sample, uint32_t site, int64_t elements, int64_t packs,
                              int64_t count, bool aligned, const T* x, T* y) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t sample = i / packs;
  const int64_t block = i % packs;
  uint32_t words[4];
  DropoutBits(rule, first_sample + static_cast<uint64_t>(sample), site, static_cast<uint32_t>(block), words);
  const int64_t at = sample * elements + block * kPack;
  const int64_t left = elements - block * kPack;
  Pack values = LoadPack(x + at, left, aligned);
#pragma unroll
  for (int k = 0; k < kPack; ++k) values.v[k] = DropoutKeeps(rule, words, k) ? values.v[k] * rule.scale : 0.0F;
  StorePack(y + at, values, left, aligned);
}

}  // namespace

template <typename T>
cudaError_t ApplyDropout(const DropoutRule& rule, uint64_t first_sample, uint32_t site, int64_t samples,
                         int64_t elements, const T* x, T* y, cudaStream_t stream) {
  const int64_t packs = BlocksFor(elements, kPack);
  const int64_t count = samples * packs;
  return Launch(DropoutKernel<T>, dim3(BlocksFor(count, kThreads)), dim3(kThreads), 0, stream, rule, first_sample, site,
                elements, packs, count, PacksAligned(elements, x, y), x, y);
}

template cudaError_t ApplyDropout(const DropoutRule&, uint64_t, uint32_t, int64_t, int64_t, const float*, float*,
                                  cudaStream_t);
template cudaError_t ApplyDropout(const DropoutRule&, uint64_t, uint32_t, int64_t, int64_t, const Bf16*, Bf16*,
                                  cudaStream_t);

}  // namespace penstock::cuda
