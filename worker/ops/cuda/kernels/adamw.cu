#include "worker/ops/cuda/kernels/adamw.h"

#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWidth = 4;  // elements of a thread: one 16-byte load from each array

// Elements are independent: the vector of four is for the memory's sake.
__global__ void AdamWVectorKernel(AdamWConstants constants, const float4* gradient, float4* weights, float4* exp_avg,
                                  float4* exp_avg_sq, int64_t vectors) {
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
}

__global__ void AdamWScalarKernel(AdamWConstants constants, const float* gradient, float* weights, float* exp_avg,
                                  float* exp_avg_sq, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) AdamWElement(constants, gradient[i], weights + i, exp_avg + i, exp_avg_sq + i);
}

cudaError_t Scalar(const AdamWConstants& constants, const float* gradient, float* weights, float* exp_avg,
                   float* exp_avg_sq, int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return Launch(AdamWScalarKernel, dim3(BlocksFor(count, kThreads)), dim3(kThreads), 0, stream, constants, gradient,
                weights, exp_avg, exp_avg_sq, count);
}

// Elements before the first one at a multiple of 16 bytes.
int64_t ElementsToAlignment(const float* at) {
  return static_cast<int64_t>((16 - reinterpret_cast<uintptr_t>(at) % 16) % 16 / sizeof(float));
}

}  // namespace

cudaError_t AdamWUpdate(const AdamWConstants& constants, const float* gradient, float* weights, float* exp_avg,
                        float* exp_avg_sq, int64_t count, cudaStream_t stream) {
  const int64_t head = ElementsToAlignment(gradient);
  const bool alike = ElementsToAlignment(weights) == head && ElementsToAlignment(exp_avg) == head &&
                     ElementsToAlignment(exp_avg_sq) == head;
  if (!alike || count < head + kWidth) {
    return Scalar(constants, gradient, weights, exp_avg, exp_avg_sq, count, stream);
  }
  const int64_t vectors = (count - head) / kWidth;
  const int64_t tail = head + vectors * kWidth;
  cudaError_t error = Scalar(constants, gradient, weights, exp_avg, exp_avg_sq, head, stream);
  if (error != cudaSuccess) return error;
  error = Launch(AdamWVectorKernel, dim3(BlocksFor(vectors, kThreads)), dim3(kThreads), 0, stream, constants,
                 reinterpret_cast<const float4*>(gradient + head), reinterpret_cast<float4*>(weights + head),
                 reinterpret_cast<float4*>(exp_avg + head), reinterpret_cast<float4*>(exp_avg_sq + head), vectors);
  if (error != cudaSuccess) return error;
  return Scalar(constants, gradient + tail, weights + tail, exp_avg + tail, exp_avg_sq + tail, count - tail, stream);
}

}  // namespace penstock::cuda
