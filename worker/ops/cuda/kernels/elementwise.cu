#include "worker/ops/cuda/kernels/elementwise.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;

struct Add {
  static constexpr bool kBinary = true;
  __device__ static float Of(float a, float b) { return a + b; }
};

// (1 + tanh(u)) / 2 is the logistic function of 2u, so y = x * logistic(2u) with 2u = kTwoRoot (x + kCubic x^3).
constexpr float kTwoRoot = 1.5957691216057308F;  // 2 sqrt(2 / pi)
constexpr float kCubic = 0.044715F;

__device__ inline float Logistic(float z) { return 1.0F / (1.0F + expf(-z)); }

struct Gelu {
  static constexpr bool kBinary = false;
  __device__ static float Of(float v, float) { return v * Logistic(kTwoRoot * (v + kCubic * (v * v * v))); }
};

struct GeluGradient {
  static constexpr bool kBinary = true;
  __device__ static float Of(float v, float dy) {
    const float s = Logistic(kTwoRoot * (v + kCubic * (v * v * v)));
    return dy * (s + v * s * (1.0F - s) * (kTwoRoot * (1.0F + (3.0F * kCubic) * (v * v))));
  }
};

// A pack for each thread. Not __restrict__: the output may be an input.
template <typename Function, typename T>
__global__ void ElementwiseKernel(const T* a, const T* b, T* out, int64_t count, bool aligned) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack;
  const int64_t left = count - first;
  if (left <= 0) return;
  Pack x = LoadPack(a + first, left, aligned);
  Pack y = x;
  if constexpr (Function::kBinary) y = LoadPack(b + first, left, aligned);
#pragma unroll
  for (int k = 0; k < kPack; ++k) x.v[k] = Function::Of(x.v[k], y.v[k]);
  StorePack(out + first, x, left, aligned);
}

template <typename From, typename To>
__global__ void ConvertKernel(const From* from, To* to, int64_t count, bool aligned) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack;
  const int64_t left = count - first;
  if (left > 0) StorePack(to + first, LoadPack(from + first, left, aligned), left, aligned);
}

template <typename Function, typename T>
cudaError_t Run(const T* a, const T* b, T* out, int64_t count, cudaStream_t stream) {
  return Launch(ElementwiseKernel<Function, T>, dim3(BlocksFor(count, kThreads * kPack)), dim3(kThreads), 0, stream, a,
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
  return Launch(ConvertKernel<From, To>, dim3(BlocksFor(count, kThreads * kPack)), dim3(kThreads), 0, stream, from, to,
                count, PacksAligned(0, from, to));
}
template cudaError_t ConvertElements(const float*, Bf16*, int64_t, cudaStream_t);
template cudaError_t ConvertElements(const Bf16*, float*, int64_t, cudaStream_t);

}  // namespace penstock::cuda
