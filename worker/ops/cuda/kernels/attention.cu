// FlashAttention-2's loops (Dao 2023) on the ordinary cores, in fp32 whatever the tensors are, without atomics: the
// same bits each time. Tiles of 32 queries and 32 keys; a row of a tile belongs to eight neighbouring threads, which
// share its columns (a column c to thread c % 8).
#include "worker/ops/cuda/kernels/attention.h"

#include "worker/ops/cuda/kernels/adamw_element.h"
#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kTile = 32;       // queries, and keys
constexpr int kRowThreads = 8;  // of a row
constexpr int kThreads = kTile * kRowThreads;
constexpr int kScores = kTile / kRowThreads;  // of a row, for each of its threads

// Where a block works: one head of one sample.
struct Head {
  int64_t seq_length;
  int64_t dim;
  int64_t qkv_stride;  // from a position to the next
  int64_t out_stride;
  int64_t qkv_begin;  // of position 0's query
  int64_t out_begin;
  int64_t row_begin;  // in (batch, heads, seq)
};

__device__ inline Head HeadOf(const AttentionSizes& s, int64_t index) {
  const int64_t b = index / s.heads;
  const int64_t h = index % s.heads;
  Head head;
  head.seq_length = s.seq_length;
  head.dim = s.head_dim;
  head.qkv_stride = s.heads * 3 * s.head_dim;
  head.out_stride = s.heads * s.head_dim;
  head.qkv_begin = b * s.seq_length * head.qkv_stride + h * 3 * s.head_dim;
  head.out_begin = b * s.seq_length * head.out_stride + h * s.head_dim;
  head.row_begin = index * s.seq_length;
  return head;
}

// Rows [first, first + kTile) of a matrix whose rows are `stride` apart into tile (kTile, pitch); zero beyond the
// sequence's end. All threads of the block.
template <typename T>
__device__ inline void LoadTile(const T* from, int64_t stride, int64_t first, const Head& head, int pitch,
                                float* tile) {
  for (int i = threadIdx.x; i < kTile * head.dim; i += kThreads) {
    const int row = i / static_cast<int>(head.dim);
    const int column = i % static_cast<int>(head.dim);
    const int64_t position = first + row;
    tile[row * pitch + column] = position < head.seq_length ? Load(from + position * stride + column) : 0.0F;
  }
}

__device__ inline float Dot(const float* a, const float* b, int dim) {
  float sum = 0;
  for (int c = 0; c < dim; ++c) sum = ieee::Fma(a[c], b[c], sum);
  return sum;
}

// An odd pitch keeps rows that are read beside each other in different banks of the shared memory.
__host__ __device__ inline int PitchOf(int64_t dim) { return static_cast<int>(dim) | 1; }

// kColumns: the columns of a row that one thread holds at most.
template <typename T, int kColumns>
__global__ void ForwardKernel(AttentionSizes sizes, const T* qkv, T* out, float* log_sum_exp) {
  const Head head = HeadOf(sizes, blockIdx.y);
  const int dim = static_cast<int>(head.dim);
  const int pitch = PitchOf(dim);
  PENSTOCK_DYNAMIC_SHARED(float, shared);
  float* const queries = shared;
  float* const keys = queries + kTile * pitch;
  float* const values = keys + kTile * pitch;
  float* const probabilities = values + kTile * pitch;  // (kTile, kTile + 1)
  const int row = threadIdx.x / kRowThreads;
  const int part = threadIdx.x % kRowThreads;
  const int64_t first_query = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t query = first_query + row;
  const float scale = 1.0F / sqrtf(static_cast<float>(dim));
  const T* const base = qkv + head.qkv_begin;
  LoadTile(base, head.qkv_stride, first_query, head, pitch, queries);

  float maximum = -INFINITY;
  float sum = 0;
  float result[kColumns] = {};
  // Keys behind the tile's last query don't show.
  for (int64_t first_key = 0; first_key <= first_query; first_key += kTile) {
    __syncthreads();  // the last tile has been used
    LoadTile(base + dim, head.qkv_stride, first_key, head, pitch, keys);
    LoadTile(base + 2 * dim, head.qkv_stride, first_key, head, pitch, values);
    __syncthreads();
    float scores[kScores];
    float largest = maximum;
#pragma unroll
    for (int k = 0; k < kScores; ++k) {
      const int key = part + k * kRowThreads;
      scores[k] = first_key + key <= query ? Dot(queries + row * pitch, keys + key * pitch, dim) * scale : -INFINITY;
      largest = fmaxf(largest, scores[k]);
    }
    largest = GroupMax<kRowThreads>(largest);  // finite: key 0 shows to everybody
    const float correction = expf(maximum - largest);
    maximum = largest;
    float added = 0;
#pragma unroll
    for (int k = 0; k < kScores; ++k) {
      const float p = expf(scores[k] - maximum);
      probabilities[row * (kTile + 1) + part + k * kRowThreads] = p;
      added += p;
    }
    sum = sum * correction + GroupSum<kRowThreads>(added);
    __syncwarp();  // a row's threads are of one warp
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const int column = part + k * kRowThreads;
      if (column < dim) {
        float value = result[k] * correction;
#pragma unroll 4
        for (int key = 0; key < kTile; ++key) {
          value = ieee::Fma(probabilities[row * (kTile + 1) + key], values[key * pitch + column], value);
        }
        result[k] = value;
      }
    }
  }
  if (query >= head.seq_length) return;
#pragma unroll
  for (int k = 0; k < kColumns; ++k) {
    const int column = part + k * kRowThreads;
    if (column < dim) Store(out + head.out_begin + query * head.out_stride + column, result[k] / sum);
  }
  if (part == 0) log_sum_exp[head.row_begin + query] = maximum + logf(sum);
}

// dot = sum over the columns of dout out: what the softmax's gradient subtracts. A warp for each (batch, seq, head).
template <typename T>
__global__ void DotKernel(AttentionSizes sizes, const T* out, const T* dout, float* dot) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarpThreads) + threadIdx.x / kWarpThreads;
  if (index >= sizes.batch * sizes.seq_length * sizes.heads) return;  // whole warps
  const int lane = threadIdx.x % kWarpThreads;
  float sum = 0;
  for (int64_t c = lane; c < sizes.head_dim; c += kWarpThreads) {
    sum = ieee::Fma(Load(out + index * sizes.head_dim + c), Load(dout + index * sizes.head_dim + c), sum);
  }
  sum = GroupSum(sum);
  const int64_t h = index % sizes.heads;
  const int64_t t = index / sizes.heads % sizes.seq_length;
  const int64_t b = index / sizes.heads / sizes.seq_length;
  if (lane == 0) dot[(b * sizes.heads + h) * sizes.seq_length + t] = sum;
}

// Block (tile of queries, head): dq = scale * sum over keys of ds k.
template <typename T, int kColumns>
__global__ void QueryGradientKernel(AttentionSizes sizes, const T* qkv, const float* log_sum_exp, const T* dout,
                                    const float* dot, T* dqkv) {
  const Head head = HeadOf(sizes, blockIdx.y);
  const int dim = static_cast<int>(head.dim);
  const int pitch = PitchOf(dim);
  PENSTOCK_DYNAMIC_SHARED(float, shared);
  float* const queries = shared;
  float* const gradients = queries + kTile * pitch;
  float* const keys = gradients + kTile * pitch;
  float* const values = keys + kTile * pitch;
  float* const ds = values + kTile * pitch;  // (kTile, kTile + 1)
  const int row = threadIdx.x / kRowThreads;
  const int part = threadIdx.x % kRowThreads;
  const int64_t first_query = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t query = first_query + row;
  const bool inside = query < head.seq_length;
  const float scale = 1.0F / sqrtf(static_cast<float>(dim));
  const T* const base = qkv + head.qkv_begin;
  LoadTile(base, head.qkv_stride, first_query, head, pitch, queries);
  LoadTile(dout + head.out_begin, head.out_stride, first_query, head, pitch, gradients);
  const float row_log = inside ? log_sum_exp[head.row_begin + query] : 0.0F;
  const float row_dot = inside ? dot[head.row_begin + query] : 0.0F;

  float result[kColumns] = {};
  for (int64_t first_key = 0; first_key <= first_query; first_key += kTile) {
    __syncthreads();  // the last tile has been used
    LoadTile(base + dim, head.qkv_stride, first_key, head, pitch, keys);
    LoadTile(base + 2 * dim, head.qkv_stride, first_key, head, pitch, values);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kScores; ++k) {
      const int key = part + k * kRowThreads;
      float d = 0;
      if (inside && first_key + key <= query) {
        const float p = expf(Dot(queries + row * pitch, keys + key * pitch, dim) * scale - row_log);
        d = p * (Dot(gradients + row * pitch, values + key * pitch, dim) - row_dot);
      }
      ds[row * (kTile + 1) + key] = d;
    }
    __syncwarp();  // a row's threads are of one warp
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const int column = part + k * kRowThreads;
      if (column < dim) {
#pragma unroll 4
        for (int key = 0; key < kTile; ++key) {
          result[k] = ieee::Fma(ds[row * (kTile + 1) + key], keys[key * pitch + column], result[k]);
        }
      }
    }
  }
  if (!inside) return;
#pragma unroll
  for (int k = 0; k < kColumns; ++k) {
    const int column = part + k * kRowThreads;
    if (column < dim) Store(dqkv + head.qkv_begin + query * head.qkv_stride + column, result[k] * scale);
  }
}

// Block (tile of keys, head): dv = sum over queries of p dout, dk = scale * sum over queries of ds q. A row is a key.
template <typename T, int kColumns>
__global__ void KeyGradientKernel(AttentionSizes sizes, const T* qkv, const float* log_sum_exp, const T* dout,
                                  const float* dot, T* dqkv) {
  const Head head = HeadOf(sizes, blockIdx.y);
  const int dim = static_cast<int>(head.dim);
  const int pitch = PitchOf(dim);
  PENSTOCK_DYNAMIC_SHARED(float, shared);
  float* const keys = shared;
  float* const values = keys + kTile * pitch;
  float* const queries = values + kTile * pitch;
  float* const gradients = queries + kTile * pitch;
  float* const p = gradients + kTile * pitch;  // (kTile, kTile + 1), and so
  float* const ds = p + kTile * (kTile + 1);
  const int row = threadIdx.x / kRowThreads;
  const int part = threadIdx.x % kRowThreads;
  const int64_t first_key = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t key = first_key + row;
  const float scale = 1.0F / sqrtf(static_cast<float>(dim));
  const T* const base = qkv + head.qkv_begin;
  LoadTile(base + dim, head.qkv_stride, first_key, head, pitch, keys);
  LoadTile(base + 2 * dim, head.qkv_stride, first_key, head, pitch, values);

  float key_result[kColumns] = {};
  float value_result[kColumns] = {};
  // Queries before the tile's first key don't see it.
  for (int64_t first_query = first_key; first_query < head.seq_length; first_query += kTile) {
    __syncthreads();  // the last tile has been used
    LoadTile(base, head.qkv_stride, first_query, head, pitch, queries);
    LoadTile(dout + head.out_begin, head.out_stride, first_query, head, pitch, gradients);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kScores; ++k) {
      const int at = part + k * kRowThreads;
      const int64_t query = first_query + at;
      float probability = 0;
      float d = 0;
      if (query < head.seq_length && key <= query) {
        probability =
            expf(Dot(queries + at * pitch, keys + row * pitch, dim) * scale - log_sum_exp[head.row_begin + query]);
        d = probability * (Dot(gradients + at * pitch, values + row * pitch, dim) - dot[head.row_begin + query]);
      }
      p[row * (kTile + 1) + at] = probability;
      ds[row * (kTile + 1) + at] = d;
    }
    __syncwarp();  // a row's threads are of one warp
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const int column = part + k * kRowThreads;
      if (column < dim) {
#pragma unroll 4
        for (int at = 0; at < kTile; ++at) {
          value_result[k] = ieee::Fma(p[row * (kTile + 1) + at], gradients[at * pitch + column], value_result[k]);
          key_result[k] = ieee::Fma(ds[row * (kTile + 1) + at], queries[at * pitch + column], key_result[k]);
        }
      }
    }
  }
  if (key >= head.seq_length) return;
  T* const to = dqkv + head.qkv_begin + key * head.qkv_stride;
#pragma unroll
  for (int k = 0; k < kColumns; ++k) {
    const int column = part + k * kRowThreads;
    if (column < dim) {
      Store(to + dim + column, key_result[k] * scale);
      Store(to + 2 * dim + column, value_result[k]);
    }
  }
}

// A launch with more dynamic shared memory than a kernel has by default.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchTiles(void (*kernel)(Parameters...), const AttentionSizes& sizes, int tiles, int scores,
                        cudaStream_t stream, Arguments... arguments) {
  const size_t bytes = (static_cast<size_t>(tiles) * kTile * PitchOf(sizes.head_dim) +
                        static_cast<size_t>(scores) * kTile * (kTile + 1)) *
                       sizeof(float);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  return Launch(kernel, dim3(BlocksFor(sizes.seq_length, kTile), static_cast<unsigned>(sizes.batch * sizes.heads)),
                dim3(kThreads), bytes, stream, sizes, arguments...);
}

template <typename T, int kColumns>
cudaError_t Forward(const AttentionSizes& sizes, const T* qkv, T* out, float* log_sum_exp, cudaStream_t stream) {
  return LaunchTiles(ForwardKernel<T, kColumns>, sizes, 3, 1, stream, qkv, out, log_sum_exp);
}

template <typename T, int kColumns>
cudaError_t Backward(const AttentionSizes& sizes, const T* qkv, const float* log_sum_exp, const T* dout,
                     const float* dot, T* dqkv, cudaStream_t stream) {
  const cudaError_t error =
      LaunchTiles(QueryGradientKernel<T, kColumns>, sizes, 4, 1, stream, qkv, log_sum_exp, dout, dot, dqkv);
  if (error != cudaSuccess) return error;
  return LaunchTiles(KeyGradientKernel<T, kColumns>, sizes, 4, 2, stream, qkv, log_sum_exp, dout, dot, dqkv);
}

}  // namespace

template <typename T>
cudaError_t AttentionForward(const AttentionSizes& sizes, const T* qkv, T* out, float* log_sum_exp,
                             cudaStream_t stream) {
  if (sizes.head_dim <= 64) return Forward<T, 8>(sizes, qkv, out, log_sum_exp, stream);
  if (sizes.head_dim <= 128) return Forward<T, 16>(sizes, qkv, out, log_sum_exp, stream);
  return Forward<T, 32>(sizes, qkv, out, log_sum_exp, stream);
}

template <typename T>
cudaError_t AttentionBackward(const AttentionSizes& sizes, const T* qkv, const T* out, const float* log_sum_exp,
                              const T* dout, float* dot, T* dqkv, cudaStream_t stream) {
  const int64_t rows = sizes.batch * sizes.seq_length * sizes.heads;
  const cudaError_t error = Launch(DotKernel<T>, dim3(BlocksFor(rows, kThreads / kWarpThreads)), dim3(kThreads), 0,
                                   stream, sizes, out, dout, dot);
  if (error != cudaSuccess) return error;
  if (sizes.head_dim <= 64) return Backward<T, 8>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
  if (sizes.head_dim <= 128) return Backward<T, 16>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
  return Backward<T, 32>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
}

template cudaError_t AttentionForward(const AttentionSizes&, const float*, float*, float*, cudaStream_t);
template cudaError_t AttentionForward(const AttentionSizes&, const Bf16*, Bf16*, float*, cudaStream_t);
template cudaError_t AttentionBackward(const AttentionSizes&, const float*, const float*, const float*, const float*,
                                       float*, float*, cudaStream_t);
template cudaError_t AttentionBackward(const AttentionSizes&, const Bf16*, const Bf16*, const float*, const Bf16*,
                                       float*, Bf16*, cudaStream_t);

}  // namespace penstock::cuda
