#include "worker/ops/cuda/kernels/adamw.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWidth = 4;  // elements of a thread: one 16-byte load from each array

// Elements are independent: the vector of four is for the memory's sake. `rounded` may be null; with `pairs` four of
// its elements are at a multiple of 8 bytes.
__global__ void AdamWVectorKernel(AdamWConstants constants, const float4* gradient, float4* weights, float4* exp_avg,
                                  float4* exp_avg_sq, Bf16* rounded, bool pairs, int64_t vectors) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const float4 g = gradient[i];
  float4 w = weights[i];
  float4 m = exp_avg[i];
  float4 v = exp_avg_sq[i];
  AdamWElement(constants, g.x, &w.x, &m.x, &v.x);
  AdamWElement(constants, g.y, &w.y, &m.y, &v.y);
  AdamWElement(constants, g.z, &w.z, &m.z, &v.z);
  AdamWElement(constants, g.w, &w.w, &m.w, &v.w);
  weights[i] = w;
  exp_avg[i] = m;
  exp_avg_sq[i] = v;
  if (rounded == nullptr) return;
  if (pairs) {
    reinterpret_cast<float2*>(rounded)[i] =
        float2{__uint_as_float(RoundPair(w.x, w.y)), __uint_as_float(RoundPair(w.z, w.w))};
    return;
  }
  Store(rounded + i * kWidth, w.x);
  Store(rounded + i * kWidth + 1, w.y);
  Store(rounded + i * kWidth + 2, w.z);
  Store(rounded + i * kWidth + 3, w.w);
}

__global__ void AdamWScalarKernel(AdamWConstants constants, const float* gradient, float* weights, float* exp_avg,
                                  float* exp_avg_sq, Bf16* rounded, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  AdamWElement(constants, gradient[i], weights + i, exp_avg + i, exp_avg_sq + i);
  if (rounded != nullptr) Store(rounded + i, weights[i]);
}

// The arrays of an update from an element on.
struct Arrays {
  const float* gradient;
  float* weights;
  float* exp_avg;
  float* exp_avg_sq;
  Bf16* rounded;

  Arrays From(int64_t at) const {
    return {gradient + at, weights + at, exp_avg + at, exp_avg_sq + at, rounded == nullptr ? nullptr : rounded + at};
  }
};

cudaError_t Scalar(const AdamWConstants& constants, const Arrays& a, int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return Launch(AdamWScalarKernel, dim3(BlocksFor(count, kThreads)), dim3(kThreads), 0, stream, constants, a.gradient,
                a.weights, a.exp_avg, a.exp_avg_sq, a.rounded, count);
}

// Elements before the first one at a multiple of 16 bytes.
int64_t ElementsToAlignment(const float* at) {
  return static_cast<int64_t>((16 - reinterpret_cast<uintptr_t>(at) % 16) % 16 / sizeof(float));
}

}  // namespace

cudaError_t AdamWUpdate(const AdamWConstants& constants, const float* gradient, float* weights, float* exp_avg,
                        float* exp_avg_sq, Bf16* rounded, int64_t count, cudaStream_t stream) {
  const Arrays all = {gradient, weights, exp_avg, exp_avg_sq, rounded};
  const int64_t head = ElementsToAlignment(gradient);
  const bool alike = ElementsToAlignment(weights) == head && ElementsToAlignment(exp_avg) == head &&
                     ElementsToAlignment(exp_avg_sq) == head;
  if (!alike || count < head + kWidth) return Scalar(constants, all, count, stream);
  const int64_t vectors = (count - head) / kWidth;
  const int64_t tail = head + vectors * kWidth;
  cudaError_t error = Scalar(constants, all, head, stream);
  if (error != cudaSuccess) return error;
  const Arrays a = all.From(head);
  error = Launch(AdamWVectorKernel, dim3(BlocksFor(vectors, kThreads)), dim3(kThreads), 0, stream, constants,
                 reinterpret_cast<const float4*>(a.gradient), reinterpret_cast<float4*>(a.weights),
                 reinterpret_cast<float4*>(a.exp_avg), reinterpret_cast<float4*>(a.exp_avg_sq), a.rounded,
                 reinterpret_cast<uintptr_t>(a.rounded) % 8 == 0, vectors);
  if (error != cudaSuccess) return error;
  return Scalar(constants, all.From(tail), count - tail, stream);
}

}  // namespace penstock::cuda
