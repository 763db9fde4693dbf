// A pass sorts by one byte of the keys, the least one first: how often each digit is in each chunk, where each chunk's
// keys of a digit begin, and then every key to its place. A thread stands for a digit and looks at the chunk's keys one
// after the other, all threads at the same one: nothing is atomic, and equal digits keep their order.
//
// Work: 2 * 1024 reads of shared memory for each thread, pass and chunk: some ten microseconds a pass, beside which a
// search for each token's earlier places (65536 tokens: 2^32 comparisons) takes milliseconds.
#include "worker/ops/cuda/kernels/token_order.h"

#include <utility>

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = kOrderDigits;

__global__ void KeysKernel(const int32_t* tokens, int64_t count, int64_t begin, int64_t end, int32_t* keys,
                           int32_t* positions) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t token = tokens[i];
  keys[i] = static_cast<int32_t>(token >= begin && token < end ? token - begin : end - begin);
  positions[i] = static_cast<int32_t>(i);
}

// The block's chunk into shared memory, by all threads; how many keys it has.
__device__ inline int LoadChunk(const int32_t* from, int64_t count, int32_t* chunk) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kOrderChunk;
  const int size = static_cast<int>(count - begin < kOrderChunk ? count - begin : kOrderChunk);
  for (int i = threadIdx.x; i < size; i += kThreads) chunk[i] = from[begin + i];
  return size;
}

// counts (chunks, kOrderDigits).
__global__ void CountKernel(const int32_t* keys, int64_t count, int shift, int32_t* counts) {
  __shared__ int32_t chunk[kOrderChunk];
  const int size = LoadChunk(keys, count, chunk);
  __syncthreads();
  const int digit = threadIdx.x;
  int32_t sum = 0;
#pragma unroll 8
  for (int i = 0; i < size; ++i) sum += (chunk[i] >> shift) % kOrderDigits == digit ? 1 : 0;
  counts[static_cast<int64_t>(blockIdx.x) * kOrderDigits + digit] = sum;
}

// One block: counts become the places where each chunk's keys of a digit begin.
__global__ void PlacesKernel(int64_t chunks, int32_t* counts) {
  __shared__ int32_t totals[kOrderDigits];
  const int digit = threadIdx.x;
  int32_t total = 0;
#pragma unroll 8
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += counts[chunk * kOrderDigits + digit];
  totals[digit] = total;
  __syncthreads();
  int32_t place = 0;
  for (int i = 0; i < digit; ++i) place += totals[i];
#pragma unroll 8
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int32_t here = counts[chunk * kOrderDigits + digit];
    counts[chunk * kOrderDigits + digit] = place;
    place += here;
  }
}

__global__ void MoveKernel(const int32_t* keys, const int32_t* positions, int64_t count, int shift,
                           const int32_t* places, int32_t* to_keys, int32_t* to_positions) {
  __shared__ int32_t chunk[kOrderChunk];
  __shared__ int32_t chunk_positions[kOrderChunk];
  const int size = LoadChunk(keys, count, chunk);
  LoadChunk(positions, count, chunk_positions);
  __syncthreads();
  const int digit = threadIdx.x;
  int32_t place = places[static_cast<int64_t>(blockIdx.x) * kOrderDigits + digit];
  for (int i = 0; i < size; ++i) {
    if ((chunk[i] >> shift) % kOrderDigits != digit) continue;
    to_keys[place] = chunk[i];
    to_positions[place] = chunk_positions[i];
    ++place;
  }
}

}  // namespace

cudaError_t OrderTokens(const int32_t* tokens, int64_t count, int64_t begin, int64_t end, int32_t* workspace,
                        TokenOrder* order, cudaStream_t stream) {
  int32_t* keys = workspace;
  int32_t* positions = keys + count;
  int32_t* other_keys = positions + count;
  int32_t* other_positions = other_keys + count;
  int32_t* const counts = other_positions + count;
  const dim3 chunks(OrderChunks(count));
  cudaError_t error = Launch(KeysKernel, dim3(BlocksFor(count, kThreads)), dim3(kThreads), 0, stream, tokens, count,
                             begin, end, keys, positions);
  for (int pass = 0; pass < OrderPasses(end - begin) && error == cudaSuccess; ++pass) {
    const int shift = pass * 8;
    error = Launch(CountKernel, chunks, dim3(kThreads), 0, stream, keys, count, shift, counts);
    if (error != cudaSuccess) return error;
    error = Launch(PlacesKernel, dim3(1), dim3(kThreads), 0, stream, OrderChunks(count), counts);
    if (error != cudaSuccess) return error;
    error = Launch(MoveKernel, chunks, dim3(kThreads), 0, stream, keys, positions, count, shift, counts, other_keys,
                   other_positions);
    std::swap(keys, other_keys);
    std::swap(positions, other_positions);
  }
  *order = {keys, positions};
  return error;
}

}  // namespace penstock::cuda
