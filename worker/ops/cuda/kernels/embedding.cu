#include "worker/ops/cuda/kernels/embedding.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"
#include "worker/ops/cuda/kernels/token_order.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokenThreads = 128;

constexpr int kForwardRows = 8;   // tokens of a block, a warp each
constexpr int kForwardPacks = 4;  // of a lane, on their way at once

template <typename T>
__global__ void ForwardKernel(EmbeddingSizes sizes, const int32_t* tokens, const T* wte, const T* wpe, int64_t count,
                              bool aligned, T* x) {
  constexpr int64_t kStride = kWarpThreads * kPack;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kForwardRows + threadIdx.y;
  if (at >= count) return;
  const int64_t token = tokens[at];
  const bool here = token >= sizes.vocab_begin && token < sizes.vocab_end;
  const int64_t row = here ? token - sizes.vocab_begin : 0;
  const int64_t position = at % sizes.seq_length;
  for (int64_t column = threadIdx.x * kPack; column < sizes.hidden; column += kForwardPacks * kStride) {
    const int64_t left = sizes.hidden - column;
    Pack values[kForwardPacks], positions[kForwardPacks];
    LoadPacks(wte + row * sizes.hidden + column, kStride, here ? left : int64_t{0}, aligned, values);
    LoadPacks(wpe + position * sizes.hidden + column, kStride, wpe != nullptr ? left : int64_t{0}, aligned, positions);
    if (wpe != nullptr) {
#pragma unroll
      for (int i = 0; i < kForwardPacks * kPack; ++i) {
        values[i / kPack].v[i % kPack] += positions[i / kPack].v[i % kPack];
      }
    }
    StorePacks(x + at * sizes.hidden + column, values, kStride, left, aligned);
  }
}

// Adds to `sum` the rows of dx from the order's number `at` on, one after the other and kAhead at a time, while there
// are as many of `key`; the number of the first one that is left. What the next ones need is loaded before the sums.
template <int kAhead, typename T>
__device__ __forceinline__ int64_t AddRows(const TokenOrder& order, int32_t key, int64_t at, int64_t count, const T* dx,
                                           int64_t hidden, int64_t left, bool aligned, Pack& sum) {
  const auto there = [&] { return at + kAhead <= count && order.keys[at + kAhead - 1] == key; };  // ascending
  int32_t positions[kAhead];
  bool more = there();
  if (more) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) positions[i] = order.positions[at + i];
  }
  while (more) {
    Pack rows[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) rows[i] = LoadPack(dx + positions[i] * hidden, left, aligned);
    at += kAhead;
    more = there();
    if (more) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) positions[i] = order.positions[at + i];
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum.v[k] += rows[i].v[k];
    }
  }
  return at;
}

// Adds the contributions to a token's row one after the other; the token's first place in the order is `first`. By the
// block.
template <int kAhead, typename T>
__device__ __forceinline__ void AddToken(const EmbeddingSizes& sizes, const TokenOrder& order, int32_t key,
                                         int64_t first, const T* dx, int64_t count, bool aligned, float* dwte) {
  const int64_t hidden = sizes.hidden;
  for (int64_t column = threadIdx.x * kPack; column < hidden; column += kTokenThreads * kPack) {
    const int64_t left = hidden - column;
    float* const row = dwte + key * hidden + column;
    Pack sum = LoadPack(row, left, aligned);
    const int64_t at = AddRows<kAhead>(order, key, first, count, dx + column, hidden, left, aligned, sum);
    AddRows<1>(order, key, at, count, dx + column, hidden, left, aligned, sum);
    StorePack(row, sum, left, aligned);
  }
}

// Tokens that are in more places than this have blocks of another kernel, with many rows on their way at once: its
// registers would leave too few blocks for all the others.
constexpr int kOften = 64;

__device__ inline bool IsOften(const TokenOrder& order, int32_t key, int64_t first, int64_t count) {
  return first + kOften < count && order.keys[first + kOften] == key;
}

// Block i has the row of the i-th token in their order if that is the first of its kind, so no two blocks write to the
// same row.
template <typename T>
__global__ void TokenGradientKernel(EmbeddingSizes sizes, TokenOrder order, const T* dx, int64_t count, bool aligned,
                                    float* dwte) {
  const int64_t self = blockIdx.x;
  const int32_t key = order.keys[self];
  if (key >= sizes.vocab_end - sizes.vocab_begin) return;  // the whole block, and so
  if (self > 0 && order.keys[self - 1] == key) return;
  if (IsOften(order, key, self, count)) return;
  AddToken<4>(sizes, order, key, self, dx, count, aligned, dwte);
}

// Block i has the row of the token that is number i * kOften of the order, if it wasn't number (i - 1) * kOften.
template <typename T>
__global__ void __launch_bounds__(kTokenThreads)
    OftenTokenGradientKernel(EmbeddingSizes sizes, TokenOrder order, const T* dx, int64_t count, bool aligned,
                             float* dwte) {
  int64_t first = static_cast<int64_t>(blockIdx.x) * kOften;
  const int32_t key = order.keys[first];
  if (key >= sizes.vocab_end - sizes.vocab_begin) return;  // the whole block, and so
  if (first >= kOften && order.keys[first - kOften] == key) return;
  for (int step = kOften / 2; step > 0; step /= 2) {  // keys are ascending
    if (first >= step && order.keys[first - step] == key) first -= step;
  }
  if (IsOften(order, key, first, count)) AddToken<16>(sizes, order, key, first, dx, count, aligned, dwte);
}

constexpr int kSamplesAtOnce = 8;

// A pack of (seq_length, hidden) for each thread.
template <typename T>
__global__ void PositionGradientKernel(const T* dx, int64_t batch, int64_t elements, bool aligned, float* dwpe) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack;
  const int64_t left = elements - first;
  if (left <= 0) return;
  Pack sum = LoadPack(dwpe + first, left, aligned);
  for (int64_t b = 0; b < batch; b += kSamplesAtOnce) {  // added one after the other
    Pack values[kSamplesAtOnce];
    if (aligned && b + kSamplesAtOnce <= batch) {
#pragma unroll
      for (int i = 0; i < kSamplesAtOnce; ++i) values[i] = LoadWholePack(dx + (b + i) * elements + first);
    } else {
#pragma unroll
      for (int i = 0; i < kSamplesAtOnce; ++i) {
        values[i] = LoadPack(dx + (b + i) * elements + first, b + i < batch ? left : 0, aligned);
      }
    }
#pragma unroll
    for (int i = 0; i < kSamplesAtOnce; ++i) {
      if (b + i >= batch) break;
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum.v[k] += values[i].v[k];
    }
  }
  StorePack(dwpe + first, sum, left, aligned);
}

}  // namespace

template <typename T>
cudaError_t EmbeddingForward(const EmbeddingSizes& sizes, const int32_t* tokens, const T* wte, const T* wpe, T* x,
                             cudaStream_t stream) {
  const int64_t count = sizes.batch * sizes.seq_length;
  return Launch(ForwardKernel<T>, dim3(BlocksFor(count, kForwardRows)), dim3(kWarpThreads, kForwardRows), 0, stream,
                sizes, tokens, wte, wpe, count, PacksAligned(sizes.hidden, wte, wpe, x), x);
}

template <typename T>
cudaError_t EmbeddingBackward(const EmbeddingSizes& sizes, const int32_t* tokens, const T* dx, int32_t* workspace,
                              float* dwte, float* dwpe, cudaStream_t stream) {
  const int64_t count = sizes.batch * sizes.seq_length;
  TokenOrder order = {};
  cudaError_t error = OrderTokens(tokens, count, sizes.vocab_begin, sizes.vocab_end, workspace, &order, stream);
  if (error != cudaSuccess) return error;
  error = Launch(TokenGradientKernel<T>, dim3(count), dim3(kTokenThreads), 0, stream, sizes, order, dx, count,
                 PacksAligned(sizes.hidden, dx, dwte), dwte);
  if (error == cudaSuccess) {
    error = Launch(OftenTokenGradientKernel<T>, dim3(BlocksFor(count, kOften)), dim3(kTokenThreads), 0, stream, sizes,
                   order, dx, count, PacksAligned(sizes.hidden, dx, dwte), dwte);
  }
  if (error != cudaSuccess || dwpe == nullptr) return error;
  const int64_t elements = sizes.seq_length * sizes.hidden;
  return Launch(PositionGradientKernel<T>, dim3(BlocksFor(elements, kThreads * kPack)), dim3(kThreads), 0, stream, dx,
                sizes.batch, elements, PacksAligned(elements, dx, dwpe), dwpe);
}

template cudaError_t EmbeddingForward(const EmbeddingSizes&, const int32_t*, const float*, const float*, float*,
                                      cudaStream_t);
template cudaError_t EmbeddingForward(const EmbeddingSizes&, const int32_t*, const Bf16*, const Bf16*, Bf16*,
                                      cudaStream_t);
template cudaError_t EmbeddingBackward(const EmbeddingSizes&, const int32_t*, const float*, int32_t*, float*, float*,
                                       cudaStream_t);
template cudaError_t EmbeddingBackward(const EmbeddingSizes&, const int32_t*, const Bf16*, int32_t*, float*, float*,
                                       cudaStream_t);

}  // namespace penstock::cuda
