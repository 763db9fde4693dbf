// What kernels share: values of a tensor's type, sums over a warp, dynamic shared memory. Everything is computed in
// fp32, whatever the tensors are.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_COMMON_CUH_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_COMMON_CUH_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "worker/ops/cuda/kernels/bf16.h"

// PENSTOCK_DYNAMIC_SHARED(float, tile): a pointer to the block's dynamic shared memory.
#if defined(PENSTOCK_CUDA_EMULATED)
#define PENSTOCK_DYNAMIC_SHARED(Type, name) Type* const name = reinterpret_cast<Type*>(emulator::dynamic_shared)
#else
#define PENSTOCK_DYNAMIC_SHARED(Type, name)                         \
  extern __shared__ __align__(16) unsigned char penstock_shared_[]; \
  Type* const name = reinterpret_cast<Type*>(penstock_shared_)
#endif

namespace penstock::cuda {

inline constexpr int kWarpThreads = 32;
inline constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ inline float Load(const float* at) { return *at; }
__device__ inline void Store(float* at, float value) { *at = value; }

__device__ inline float Load(const Bf16* at) { return __uint_as_float(static_cast<unsigned>(at->bits) << 16); }
// To nearest, ties to even, a NaN stays one: as core/base/bfloat16.h.
__device__ inline void Store(Bf16* at, float value) {
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const unsigned nan = (bits >> 16) | 0x40u;
  at->bits = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

// Every thread of a group of `width` neighbours (a power of two, within a warp) gets the sum or maximum over the group,
// always added in the same order.
template <int width = kWarpThreads, typename T>
__device__ inline T GroupSum(T value) {
  for (int step = width / 2; step > 0; step /= 2) value = value + __shfl_xor_sync(kWholeWarp, value, step);
  return value;
}
template <int width = kWarpThreads>
__device__ inline float GroupMax(float value) {
  for (int step = width / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, step));
  return value;
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_COMMON_CUH_
