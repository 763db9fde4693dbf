#include "worker/ops/cuda/kernels/embedding.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"
#include "worker/ops/cuda/kernels/token_order.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokenThreads = 128;

// A pack of a token's row for each thread. `packs` of a row.
template <typename T>
__global__ void ForwardKernel(EmbeddingSizes sizes, const int32_t* tokens, const T* wte, const T* wpe, int64_t count,
                              int64_t packs, bool aligned, T* x) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count * packs) return;
  const int64_t at = i / packs;
  const int64_t column = i % packs * kPack;
  const int64_t left = sizes.hidden - column;
  const int64_t token = tokens[at];
  const bool here = token >= sizes.vocab_begin && token < sizes.vocab_end;
  Pack values = {};
  if (here) values = LoadPack(wte + (token - sizes.vocab_begin) * sizes.hidden + column, left, aligned);
  if (wpe != nullptr) {
    const Pack position = LoadPack(wpe + at % sizes.seq_length * sizes.hidden + column, left, aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) values.v[k] += position.v[k];
  }
  StorePack(x + at * sizes.hidden + column, values, left, aligned);
}

// Block i has the row of the i-th token in their order if that is the first of its kind: it adds the row's
// contributions one after the other, so no two blocks write to the same row. Loads are some ahead of the sums.
template <typename T>
__global__ void TokenGradientKernel(EmbeddingSizes sizes, TokenOrder order, const T* dx, int64_t count, bool aligned,
                                    float* dwte) {
  constexpr int kAhead = 4;
  const int64_t self = blockIdx.x;
  const int32_t key = order.keys[self];
  if (key >= sizes.vocab_end - sizes.vocab_begin) return;  // the whole block, and so
  if (self > 0 && order.keys[self - 1] == key) return;
  const int64_t hidden = sizes.hidden;
  for (int64_t column = threadIdx.x * kPack; column < hidden; column += kTokenThreads * kPack) {
    const int64_t left = hidden - column;
    float* const row = dwte + key * hidden + column;
    Pack sum = LoadPack(row, left, aligned);
    for (int64_t at = self; at < count && order.keys[at] == key; at += kAhead) {
      Pack ahead[kAhead];
      bool mine[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        mine[i] = at + i < count && order.keys[at + i] == key;
        if (mine[i]) ahead[i] = LoadPack(dx + order.positions[at + i] * hidden + column, left, aligned);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (!mine[i]) break;
#pragma unroll
        for (int k = 0; k < kPack; ++k) sum.v[k] += ahead[i].v[k];
      }
    }
    StorePack(row, sum, left, aligned);
  }
}

// A pack of (seq_length, hidden) for each thread.
template <typename T>
__global__ void PositionGradientKernel(const T* dx, int64_t batch, int64_t elements, bool aligned, float* dwpe) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack;
  const int64_t left = elements - first;
  if (left <= 0) return;
  Pack sum = LoadPack(dwpe + first, left, aligned);
#pragma unroll 4
  for (int64_t b = 0; b < batch; ++b) {
    const Pack values = LoadPack(dx + b * elements + first, left, aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum.v[k] += values.v[k];
  }
  StorePack(dwpe + first, sum, left, aligned);
}

}  // namespace

template <typename T>
cudaError_t EmbeddingForward(const EmbeddingSizes& sizes, const int32_t* tokens, const T* wte, const T* wpe, T* x,
                             cudaStream_t stream) {
  const int64_t count = sizes.batch * sizes.seq_length;
  const int64_t packs = BlocksFor(sizes.hidden, kPack);
  return Launch(ForwardKernel<T>, dim3(BlocksFor(count * packs, kThreads)), dim3(kThreads), 0, stream, sizes, tokens,
                wte, wpe, count, packs, PacksAligned(sizes.hidden, wte, wpe, x), x);
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
