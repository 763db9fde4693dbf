#include "worker/ops/cuda/kernels/elementwise.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;

// Packs of a thread, kThreads packs apart, all on their way at once.
constexpr int kAtOnce = 2;
constexpr int kStride = kThreads * kPack;

struct Add {
  static constexpr bool kBinary = true;
  template <typename T>
  __device__ static float Of(float a, float b) {
    return a + b;
  }
};

// (1 + tanh(u)) / 2 is the logistic function of 2u, so y = x * logistic(2u) with 2u = kTwoRoot (x + kCubic x^3).
constexpr float kTwoRoot = 1.5957691216057308F;  // 2 sqrt(2 / pi)
constexpr float kCubic = 0.044715F;

// In bf16 by the hardware's own exponential and reciprocal, without which it is this that takes the time.
template <typename T>
__device__ inline float Logistic(float z) {
  const float sum = 1.0F + Exponential<T>(-z);
  return sizeof(T) == sizeof(float) ? 1.0F / sum : Reciprocal(sum);
}

struct Gelu {
  static constexpr bool kBinary = false;
  template <typename T>
  __device__ static float Of(float v, float) {
    return v * Logistic<T>(kTwoRoot * (v + kCubic * (v * v * v)));
  }
};

struct GeluGradient {
  static constexpr bool kBinary = true;
  template <typename T>
  __device__ static float Of(float v, float dy) {
    const float s = Logistic<T>(kTwoRoot * (v + kCubic * (v * v * v)));
    return dy * (s + v * s * (1.0F - s) * (kTwoRoot * (1.0F + (3.0F * kCubic) * (v * v))));
  }
};

__device__ __forceinline__ int64_t FirstOfThread() {
  return static_cast<int64_t>(blockIdx.x) * (kAtOnce * kStride) + threadIdx.x * kPack;
}
// Whether all of a thread's packs are there as a whole and may be moved by 16 bytes: no branch between the loads then.
__device__ __forceinline__ bool AllWhole(int64_t left, bool aligned) {
  return aligned && left >= (kAtOnce - 1) * kStride + kPack;
}

// Not __restrict__: the output may be an input.
template <typename Function, typename T>
__global__ void __launch_bounds__(kThreads, 4)
    ElementwiseKernel(const T* a, const T* b, T* out, int64_t count, bool aligned) {
  const int64_t first = FirstOfThread();
  const int64_t left = count - first;
  const auto apply = [](Pack& x, const Pack& y) {
#pragma unroll
    for (int k = 0; k < kPack; ++k) x.v[k] = Function::template Of<T>(x.v[k], y.v[k]);
  };
  if (AllWhole(left, aligned)) {
    RawPack<T> raw[kAtOnce][2];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      raw[i][0] = LoadRaw(a + first + i * kStride);
      if constexpr (Function::kBinary) raw[i][1] = LoadRaw(b + first + i * kStride);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce * 2; ++i) {
      if (Function::kBinary || i % 2 == 0) Forget(raw[i / 2][i % 2]);  // here, and not where they are first needed
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      Pack x = Unpack(raw[i][0]);
      apply(x, Function::kBinary ? Unpack(raw[i][1]) : x);
      StoreWholePack(out + first + i * kStride, x);
    }
    return;
  }
#pragma unroll 1
  for (int64_t at = first; at < count && at <= first + (kAtOnce - 1) * kStride; at += kStride) {
    Pack x = LoadPack(a + at, count - at, aligned);
    apply(x, Function::kBinary ? LoadPack(b + at, count - at, aligned) : x);
    StorePack(out + at, x, count - at, aligned);
  }
}

template <typename From, typename To>
__global__ void ConvertKernel(const From* from, To* to, int64_t count, bool aligned) {
  const int64_t first = FirstOfThread();
  if (AllWhole(count - first, aligned)) {
    Pack values[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) values[i] = LoadWholePack(from + first + i * kStride);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) StoreWholePack(to + first + i * kStride, values[i]);
    return;
  }
#pragma unroll 1
  for (int64_t at = first; at < count && at <= first + (kAtOnce - 1) * kStride; at += kStride) {
    StorePack(to + at, LoadPack(from + at, count - at, aligned), count - at, aligned);
  }
}

template <typename Function, typename T>
cudaError_t Run(const T* a, const T* b, T* out, int64_t count, cudaStream_t stream) {
  return Launch(ElementwiseKernel<Function, T>, dim3(BlocksFor(count, kAtOnce * kStride)), dim3(kThreads), 0, stream, a,
                b, out, count, PacksAligned(0, a, b, out));
}

}  // namespace

template <typename T>
cudaError_t AddElements(const T* a, const T* b, T* y, int64_t count, cudaStream_t stream) {
  return Run<Add>(a, b, y, count, stream);
}
template <typename T>
cudaError_t GeluForward(const T* x, T* y, int64_t count, cudaStream_t stream) {
  return Run<Gelu>(x, x, y, count, stream);
}
template <typename T>
cudaError_t GeluBackward(const T* x, const T* dy, T* dx, int64_t count, cudaStream_t stream) {
  return Run<GeluGradient>(x, dy, dx, count, stream);
}

template cudaError_t AddElements(const float*, const float*, float*, int64_t, cudaStream_t);
template cudaError_t AddElements(const Bf16*, const Bf16*, Bf16*, int64_t, cudaStream_t);
template cudaError_t GeluForward(const float*, float*, int64_t, cudaStream_t);
template cudaError_t GeluForward(const Bf16*, Bf16*, int64_t, cudaStream_t);
template cudaError_t GeluBackward(const float*, const float*, float*, int64_t, cudaStream_t);
template cudaError_t GeluBackward(const Bf16*, const Bf16*, Bf16*, int64_t, cudaStream_t);

template <typename From, typename To>
cudaError_t ConvertElements(const From* from, To* to, int64_t count, cudaStream_t stream) {
  return Launch(ConvertKernel<From, To>, dim3(BlocksFor(count, kAtOnce * kStride)), dim3(kThreads), 0, stream, from, to,
                count, PacksAligned(0, from, to));
}
template cudaError_t ConvertElements(const float*, Bf16*, int64_t, cudaStream_t);
template cudaError_t ConvertElements(const Bf16*, float*, int64_t, cudaStream_t);

}  // namespace penstock::cuda
