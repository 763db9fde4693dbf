#include "worker/ops/cuda/kernels/embedding.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokenThreads = 128;

__global__ void CheckTokensKernel(const int32_t* tokens, int64_t count, int64_t lowest, int64_t vocab_size,
                                  unsigned long long* first_bad) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count && (tokens[i] < lowest || tokens[i] >= vocab_size)) {
    atomicMin(first_bad, static_cast<unsigned long long>(i));
  }
}

template <typename T>
__global__ void ForwardKernel(EmbeddingSizes sizes, const int32_t* tokens, const T* wte, const T* wpe, int64_t elements,
                              T* x) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= elements) return;
  const int64_t at = i / sizes.hidden;
  const int64_t column = i % sizes.hidden;
  const int64_t token = tokens[at];
  const bool here = token >= sizes.vocab_begin && token < sizes.vocab_end;
  float value = here ? Load(wte + (token - sizes.vocab_begin) * sizes.hidden + column) : 0.0F;
  if (wpe != nullptr) value += Load(wpe + at % sizes.seq_length * sizes.hidden + column);
  Store(x + i, value);
}

// Block i is the owner of token i's row if the token occurs there first. It then goes through the rest of the tokens
// and adds the row's contributions in their order, so no two blocks write to the same row and nothing is atomic.
template <typename T>
__global__ void TokenGradientKernel(EmbeddingSizes sizes, const int32_t* tokens, const T* dx, int64_t count,
                                    float* dwte) {
  __shared__ int32_t window[kTokenThreads];
  const int64_t self = blockIdx.x;
  const int32_t token = tokens[self];
  const int thread = threadIdx.x;
  const int64_t hidden = sizes.hidden;
  if (token < sizes.vocab_begin || token >= sizes.vocab_end) return;  // the whole block
  bool earlier = false;
  for (int64_t i = thread; i < self && !earlier; i += kTokenThreads) earlier = tokens[i] == token;
  if (__syncthreads_or(earlier)) return;
  float* const row = dwte + (token - sizes.vocab_begin) * hidden;
  for (int64_t begin = self; begin < count; begin += kTokenThreads) {
    const bool mine = begin + thread < count && tokens[begin + thread] == token;
    window[thread] = mine ? 1 : 0;
    // Also the barrier between writing the window and reading it.
    if (!__syncthreads_or(mine)) continue;
    for (int64_t column = thread; column < hidden; column += kTokenThreads) {
      float sum = row[column];
      for (int k = 0; k < kTokenThreads; ++k) {
        if (window[k] != 0) sum += Load(dx + (begin + k) * hidden + column);
      }
      row[column] = sum;
    }
    __syncthreads();
  }
}

template <typename T>
__global__ void PositionGradientKernel(const T* dx, int64_t batch, int64_t elements, float* dwpe) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;  // of (seq_length, hidden)
  if (i >= elements) return;
  float sum = dwpe[i];
  for (int64_t b = 0; b < batch; ++b) sum += Load(dx + b * elements + i);
  dwpe[i] = sum;
}

}  // namespace

cudaError_t CheckTokens(const int32_t* tokens, int64_t count, int64_t lowest, int64_t vocab_size,
                        unsigned long long* first_bad, cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(first_bad, 0xff, sizeof(*first_bad), stream);
  if (error != cudaSuccess) return error;
  return Launch(CheckTokensKernel, dim3(BlocksFor(count, kThreads)), dim3(kThreads), 0, stream, tokens, count, lowest,
                vocab_size, first_bad);
}

template <typename T>
cudaError_t EmbeddingForward(const EmbeddingSizes& sizes, const int32_t* tokens, const T* wte, const T* wpe, T* x,
                             cudaStream_t stream) {
  const int64_t elements = sizes.batch * sizes.seq_length * sizes.hidden;
  return Launch(ForwardKernel<T>, dim3(BlocksFor(elements, kThreads)), dim3(kThreads), 0, stream, sizes, tokens, wte,
                wpe, elements, x);
}

template <typename T>
cudaError_t EmbeddingBackward(const EmbeddingSizes& sizes, const int32_t* tokens, const T* dx, float* dwte, float* dwpe,
                              cudaStream_t stream) {
  const int64_t count = sizes.batch * sizes.seq_length;
  const cudaError_t error = Launch(TokenGradientKernel<T>, dim3(static_cast<unsigned>(count)), dim3(kTokenThreads), 0,
                                   stream, sizes, tokens, dx, count, dwte);
  if (error != cudaSuccess || dwpe == nullptr) return error;
  const int64_t elements = sizes.seq_length * sizes.hidden;
  return Launch(PositionGradientKernel<T>, dim3(BlocksFor(elements, kThreads)), dim3(kThreads), 0, stream, dx,
                sizes.batch, elements, dwpe);
}

template cudaError_t EmbeddingForward(const EmbeddingSizes&, const int32_t*, const float*, const float*, float*,
                                      cudaStream_t);
template cudaError_t EmbeddingForward(const EmbeddingSizes&, const int32_t*, const Bf16*, const Bf16*, Bf16*,
                                      cudaStream_t);
template cudaError_t EmbeddingBackward(const EmbeddingSizes&, const int32_t*, const float*, float*, float*,
                                       cudaStream_t);
template cudaError_t EmbeddingBackward(const EmbeddingSizes&, const int32_t*, const Bf16*, float*, float*,
                                       cudaStream_t);

}  // namespace penstock::cuda
