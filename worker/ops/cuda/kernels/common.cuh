// What kernels share: values of a tensor's type, sums over a warp, dynamic shared memory. Everything is computed in
// fp32, whatever the tensors are.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_COMMON_CUH_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_COMMON_CUH_

#include <cuda_runtime.h>

#include <cmath>
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

#if defined(PENSTOCK_CUDA_EMULATED)
// To nearest, ties to even, a NaN stays one: as core/base/bfloat16.h.
inline void Store(Bf16* at, float value) {
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const unsigned nan = (bits >> 16) | 0x40u;
  at->bits = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}
// The first one low.
inline unsigned RoundPair(float low, float high) {
  Bf16 pair[2];
  Store(pair, low);
  Store(pair + 1, high);
  return pair[0].bits | static_cast<unsigned>(pair[1].bits) << 16;
}
inline float Exp2(float x) { return std::exp2(x); }
#else
// By one instruction of sm_80 and later: the same bits as core/base/bfloat16.h's but for a NaN, which is 0x7FFF.
__device__ __forceinline__ void Store(Bf16* at, float value) {
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(at->bits) : "f"(value));
}
// The first one low.
__device__ __forceinline__ unsigned RoundPair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// 2^x, by one instruction: within 2 units in the last place, and what isn't a normal number is zero.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

// Eight neighbouring values, by loads and stores of 16 bytes where these are possible.
inline constexpr int kPack = 8;
struct Pack {
  float v[kPack];
};

// Whether every pack of every array may be moved by 16 bytes: they begin at multiples of that, and so does each row.
template <typename... T>
inline bool PacksAligned(int64_t width, const T*... arrays) {
  return width % kPack == 0 && ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...);
}

__device__ inline Pack LoadWholePack(const float* at) {
  const float4 a = reinterpret_cast<const float4*>(at)[0];
  const float4 b = reinterpret_cast<const float4*>(at)[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ inline Pack LoadWholePack(const Bf16* at) {
  const float4 raw = *reinterpret_cast<const float4*>(at);
  const float words[4] = {raw.x, raw.y, raw.z, raw.w};
  Pack pack;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const unsigned word = __float_as_uint(words[k / 2]);
    pack.v[k] = __uint_as_float(k % 2 == 0 ? word << 16 : word & 0xffff0000u);
  }
  return pack;
}
// The first `left` values from `at` on, zeros for the others.
template <typename T>
__device__ inline Pack LoadPack(const T* at, int64_t left, bool aligned) {
  if (aligned && left >= kPack) return LoadWholePack(at);
  Pack pack;
#pragma unroll
  for (int k = 0; k < kPack; ++k) pack.v[k] = k < left ? Load(at + k) : 0.0F;
  return pack;
}

__device__ inline void StoreWholePack(float* at, const Pack& pack) {
  const float* const v = pack.v;
  reinterpret_cast<float4*>(at)[0] = float4{v[0], v[1], v[2], v[3]};
  reinterpret_cast<float4*>(at)[1] = float4{v[4], v[5], v[6], v[7]};
}
__device__ inline void StoreWholePack(Bf16* at, const Pack& pack) {
  float words[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) words[k] = __uint_as_float(RoundPair(pack.v[2 * k], pack.v[2 * k + 1]));
  *reinterpret_cast<float4*>(at) = float4{words[0], words[1], words[2], words[3]};
}
template <typename T>
__device__ inline void StorePack(T* at, const Pack& pack, int64_t left, bool aligned) {
  if (aligned && left >= kPack) return StoreWholePack(at, pack);
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    if (k < left) Store(at + k, pack.v[k]);
  }
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
