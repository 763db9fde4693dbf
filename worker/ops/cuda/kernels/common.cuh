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
inline float Reciprocal(float x) { return 1.0F / x; }
inline void PrefetchToL2(const void*, int64_t) {}
template <typename T>
void Forget(T&) {}
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
// 1 / x, by one instruction: within a unit in the last place, and what isn't a normal number is zero.
__device__ __forceinline__ float Reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// `bytes` bytes, both multiples of 16, on their way to the L2 cache: by one thread, and nobody waits for them. sm_90
// and later; before, nothing.
__device__ __forceinline__ void PrefetchToL2([[maybe_unused]] const void* at, [[maybe_unused]] int64_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(at)),
               "r"(static_cast<unsigned>(bytes))
               : "memory");
#endif
}
// The compiler doesn't know the value any more.
__device__ __forceinline__ void Forget(float& value) { asm volatile("" : "+f"(value)); }
template <typename T>
__device__ __forceinline__ void Forget(T*& address) {
  asm volatile("" : "+l"(address));
}
#endif

// e^x. In bf16, where the values themselves are rounded to 2^-9 of each, by the hardware's own exponential.
template <typename T>
__device__ inline float Exponential(float x) {
  constexpr float kLog2E = 1.4426950408889634F;
  return sizeof(T) == sizeof(float) ? expf(x) : Exp2(x * kLog2E);
}

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

// A bool that is known when a kernel is compiled. (std::bool_constant's conversion is the host's alone.)
template <bool kValue>
struct Known {
  __host__ __device__ constexpr operator bool() const { return kValue; }  // NOLINT: it stands for a bool
};

// A pack as it lies in memory: half the registers, in bf16.
template <typename T>
struct RawPack {
  float4 v[kPack * sizeof(T) / sizeof(float4)];
};
__device__ __forceinline__ Pack Unpack(const RawPack<float>& raw) {
  const float4 a = raw.v[0];
  const float4 b = raw.v[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ __forceinline__ Pack Unpack(const RawPack<Bf16>& raw) {
  const float words[4] = {raw.v[0].x, raw.v[0].y, raw.v[0].z, raw.v[0].w};
  Pack pack;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const unsigned word = __float_as_uint(words[k / 2]);
    pack.v[k] = __uint_as_float(k % 2 == 0 ? word << 16 : word & 0xffff0000u);
  }
  return pack;
}
template <typename T>
__device__ __forceinline__ RawPack<T> ToRaw(const Pack& pack) {
  const float* const v = pack.v;
  if constexpr (sizeof(T) == sizeof(float)) {
    return {{{v[0], v[1], v[2], v[3]}, {v[4], v[5], v[6], v[7]}}};
  } else {
    float words[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) words[k] = __uint_as_float(RoundPair(v[2 * k], v[2 * k + 1]));
    return {{{words[0], words[1], words[2], words[3]}}};
  }
}
// What was computed from `raw` so far is computed again where it is needed again, which takes less registers in
// between.
template <typename T>
__device__ __forceinline__ void Forget(RawPack<T>& raw) {
#pragma unroll
  for (size_t i = 0; i < sizeof(raw) / sizeof(float4); ++i) {
    Forget(raw.v[i].x);
    Forget(raw.v[i].y);
    Forget(raw.v[i].z);
    Forget(raw.v[i].w);
  }
}
template <typename T>
__device__ __forceinline__ RawPack<T> LoadRaw(const T* at) {
  return *reinterpret_cast<const RawPack<T>*>(at);
}
template <typename T>
__device__ __forceinline__ Pack LoadWholePack(const T* at) {
  return Unpack(LoadRaw(at));
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

template <typename T>
__device__ __forceinline__ void StoreWholePack(T* at, const Pack& pack) {
  *reinterpret_cast<RawPack<T>*>(at) = ToRaw<T>(pack);
}
template <typename T>
__device__ inline void StorePack(T* at, const Pack& pack, int64_t left, bool aligned) {
  if (aligned && left >= kPack) return StoreWholePack(at, pack);
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    if (k < left) Store(at + k, pack.v[k]);
  }
}

// kCount packs, `stride` elements apart, of the first `left` values from `at` on; zeros for the others. `aligned`: each
// pack is there as a whole or not at all, and may be moved by 16 bytes. There is no branch between the loads then, so
// that all are on their way before the first is waited for: what keeps memory busy is how much is on its way (3.4 MB
// for an H200's 4.8 TB/s at 700 ns, so 26 KB for each multiprocessor).
//
// Aligned: bool, or where registers are few Known.
template <int kCount, typename T, typename Int, typename Aligned>
__device__ __forceinline__ void LoadRaws(const T* at, Int stride, Int left, Aligned aligned,
                                         RawPack<T> (&raws)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) raws[i] = RawPack<T>{};
  if (aligned) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i * stride < left) raws[i] = LoadRaw(at + i * stride);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) raws[i] = ToRaw<T>(LoadPack(at + i * stride, left - i * stride, false));
  }
}
template <int kCount, typename T, typename Int, typename Aligned>
__device__ __forceinline__ void LoadPacks(const T* at, Int stride, Int left, Aligned aligned, Pack (&packs)[kCount]) {
  RawPack<T> raws[kCount];
  LoadRaws(at, stride, left, aligned, raws);
#pragma unroll
  for (int i = 0; i < kCount; ++i) packs[i] = Unpack(raws[i]);
}
template <int kCount, typename T, typename Int, typename Aligned>
__device__ __forceinline__ void StoreRaws(T* at, const RawPack<T> (&raws)[kCount], Int stride, Int left,
                                          Aligned aligned) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (!aligned) {
      StorePack(at + i * stride, Unpack(raws[i]), left - i * stride, false);
    } else if (i * stride < left) {
      *reinterpret_cast<RawPack<T>*>(at + i * stride) = raws[i];
    }
  }
}
template <int kCount, typename T, typename Int, typename Aligned>
__device__ __forceinline__ void StorePacks(T* at, const Pack (&packs)[kCount], Int stride, Int left, Aligned aligned) {
  RawPack<T> raws[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) raws[i] = ToRaw<T>(packs[i]);
  StoreRaws(at, raws, stride, left, aligned);
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
