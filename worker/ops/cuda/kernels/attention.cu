// Which kernels an attention runs on, and what the gradient's need first.
#include "worker/ops/cuda/kernels/attention.h"

#include <type_traits>

#include "worker/ops/cuda/kernels/adamw_element.h"
#include "worker/ops/cuda/kernels/attention_plain.h"
#include "worker/ops/cuda/kernels/attention_tensor.h"
#include "worker/ops/cuda/kernels/attention_tensor_gradient.h"
#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;

constexpr int kRowThreads = 8;  // of a (batch, seq, head): a pack of a head of 64 each

// dot = sum over the columns of dout out: what the softmax's gradient subtracts.
template <typename T>
__global__ void DotKernel(AttentionSizes sizes, const T* out, const T* dout, bool aligned, float* dot) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (kThreads / kRowThreads) + threadIdx.x / kRowThreads;
  const bool inside = index < sizes.batch * sizes.seq_length * sizes.heads;
  const int part = threadIdx.x % kRowThreads;
  float sum = 0;
  for (int64_t c = part * kPack; inside && c < sizes.head_dim; c += kRowThreads * kPack) {
    const int64_t left = sizes.head_dim - c;
    const T* const at[2] = {out + index * sizes.head_dim + c, dout + index * sizes.head_dim + c};
    RawPack<T> raw[2];
    if (aligned) {  // both on their way at once
      raw[0] = LoadRaw(at[0]);
      raw[1] = LoadRaw(at[1]);
    } else {
      raw[0] = ToRaw<T>(LoadPack(at[0], left, false));
      raw[1] = ToRaw<T>(LoadPack(at[1], left, false));
    }
    const Pack o = Unpack(raw[0]);
    const Pack d = Unpack(raw[1]);
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum = ieee::Fma(o.v[k], d.v[k], sum);
  }
  sum = GroupSum<kRowThreads>(sum);
  if (!inside || part != 0) return;
  const int64_t h = index % sizes.heads;
  const int64_t t = index / sizes.heads % sizes.seq_length;
  const int64_t b = index / sizes.heads / sizes.seq_length;
  dot[(b * sizes.heads + h) * sizes.seq_length + t] = sum;
}

template <typename T>
constexpr bool kBf16 = std::is_same_v<T, Bf16>;

}  // namespace

template <typename T>
cudaError_t AttentionForward(const AttentionSizes& sizes, const T* qkv, T* out, float* log_sum_exp,
                             cudaStream_t stream) {
  if constexpr (kBf16<T>) {
    if (sizes.head_dim <= kTensorHeadDimMax) return TensorAttentionForward(sizes, qkv, out, log_sum_exp, stream);
  }
  return PlainAttentionForward(sizes, qkv, out, log_sum_exp, stream);
}

template <typename T>
cudaError_t AttentionBackward(const AttentionSizes& sizes, const T* qkv, const T* out, const float* log_sum_exp,
                              const T* dout, float* dot, T* dqkv, cudaStream_t stream) {
  const int64_t rows = sizes.batch * sizes.seq_length * sizes.heads;
  const cudaError_t error = Launch(DotKernel<T>, dim3(BlocksFor(rows, kThreads / kRowThreads)), dim3(kThreads), 0,
                                   stream, sizes, out, dout, PacksAligned(sizes.head_dim, out, dout), dot);
  if (error != cudaSuccess) return error;
  if constexpr (kBf16<T>) {
    if (sizes.head_dim <= kTensorHeadDimMax) {
      return TensorAttentionBackward(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
    }
  }
  return PlainAttentionBackward(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
}

template cudaError_t AttentionForward(const AttentionSizes&, const float*, float*, float*, cudaStream_t);
template cudaError_t AttentionForward(const AttentionSizes&, const Bf16*, Bf16*, float*, cudaStream_t);
template cudaError_t AttentionBackward(const AttentionSizes&, const float*, const float*, const float*, const float*,
                                       float*, float*, cudaStream_t);
template cudaError_t AttentionBackward(const AttentionSizes&, const Bf16*, const Bf16*, const float*, const Bf16*,
                                       float*, Bf16*, cudaStream_t);

}  // namespace penstock::cuda
