// FlashAttention-2's loops (Dao 2023) on the ordinary cores, in fp32 whatever the tensors are, without atomics: the
// same bits each time. Tiles of as many queries as keys: 32, and 16 with heads of more than 128, so that they fit the
// 99 KB of shared memory that the smallest cards have for a block. A row of a tile belongs to eight neighbouring
// threads, which share its columns (a column c to thread c % 8).
#include "worker/ops/cuda/kernels/attention_plain.h"

#include "worker/ops/cuda/kernels/adamw_element.h"
#include "worker/ops/cuda/kernels/attention_head.cuh"
#include "worker/ops/cuda/kernels/common.cuh"

namespace penstock::cuda {
namespace {

constexpr int kRowThreads = 8;  // of a row

// Of a block, by the columns of a row that one thread holds at most.
template <int kColumns>
struct Tiles {
  static constexpr int kTile = PlainTileRows(kColumns * kRowThreads);  // queries, and keys
  static constexpr int kThreads = kTile * kRowThreads;
  static constexpr int kScores = kTile / kRowThreads;  // of a row, for each of its threads
};

// Rows [first, first + kTile) of a matrix whose rows are `stride` apart into tile (kTile, pitch); zero beyond the
// sequence's end. All threads of the block.
template <int kTile, typename T>
__device__ inline void LoadTile(const T* from, int64_t stride, int first, const Head& head, int pitch, float* tile) {
  for (int i = threadIdx.x; i < kTile * head.dim; i += kTile * kRowThreads) {
    const int row = i / head.dim;
    const int column = i % head.dim;
    const int position = first + row;
    tile[row * pitch + column] = position < head.seq_length ? Load(from + position * stride + column) : 0.0F;
  }
}

__device__ inline float Dot(const float* a, const float* b, int dim) {
  float sum = 0;
  for (int c = 0; c < dim; ++c) sum = ieee::Fma(a[c], b[c], sum);
  return sum;
}

// A thread of a block that owns kTile rows: one row of them (queries, or keys for their gradients) belongs to it and
// its seven neighbours.
template <int kTile>
struct Place {
  Head head;
  int pitch;
  float scale;
  int row;   // of the tile
  int part;  // of the row
  int first;
  int position;  // first + row
  bool inside;   // the sequence
  float* shared;

  // The shared memory begins with tiles (kTile, pitch); scores (kTile, kTile + 1) follow the last one.
  __device__ float* Tile(int index) const { return shared + index * kTile * pitch; }
  __device__ float* Scores(int tiles, int index) const { return Tile(tiles) + index * kTile * (kTile + 1); }
};

template <int kTile>
__device__ inline Place<kTile> PlaceOf(const AttentionSizes& sizes, bool queries) {
  PENSTOCK_DYNAMIC_SHARED(float, shared);
  Place<kTile> place;
  const TilePlace at = PlaceOfBlock(sizes, kTile);
  place.head = HeadOf(sizes, at.head);
  place.pitch = PlainPitch(sizes.head_dim);
  place.scale = place.head.Scale();
  place.row = threadIdx.x / kRowThreads;
  place.part = threadIdx.x % kRowThreads;
  place.first = queries ? FirstQuery(sizes, at, kTile) : FirstKey(at, kTile);
  place.position = place.first + place.row;
  place.inside = place.position < sizes.seq_length;
  place.shared = shared;
  return place;
}

// kColumns: the columns of a row that one thread holds at most.
template <typename T, int kColumns>
__global__ void __launch_bounds__(Tiles<kColumns>::kThreads)
    ForwardKernel(AttentionSizes sizes, const T* qkv, T* out, float* log_sum_exp) {
  constexpr int kTile = Tiles<kColumns>::kTile;
  constexpr int kScores = Tiles<kColumns>::kScores;
  const Place<kTile> place = PlaceOf<kTile>(sizes, /*queries=*/true);
  const Head& head = place.head;
  const int dim = head.dim, pitch = place.pitch, row = place.row, part = place.part;
  const int query = place.position;
  float* const queries = place.Tile(0);
  float* const keys = place.Tile(1);
  float* const values = place.Tile(2);
  float* const probabilities = place.Scores(3, 0);
  const T* const base = qkv + head.qkv_begin;
  LoadTile<kTile>(base, head.qkv_stride, place.first, head, pitch, queries);

  float maximum = -INFINITY;
  float sum = 0;
  float result[kColumns] = {};
  const int key_end = head.KeyEnd(place.first + kTile);
  for (int first_key = 0; first_key < key_end; first_key += kTile) {
    __syncthreads();  // the last tile has been used
    LoadTile<kTile>(base + dim, head.qkv_stride, first_key, head, pitch, keys);
    LoadTile<kTile>(base + 2 * dim, head.qkv_stride, first_key, head, pitch, values);
    __syncthreads();
    float scores[kScores];
    float largest = maximum;
#pragma unroll
    for (int k = 0; k < kScores; ++k) {
      const int key = part + k * kRowThreads;
      scores[k] = head.Shows(first_key + key, query) ? Dot(queries + row * pitch, keys + key * pitch, dim) * place.scale
                                                     : -INFINITY;
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
  if (!place.inside) return;
#pragma unroll
  for (int k = 0; k < kColumns; ++k) {
    const int column = part + k * kRowThreads;
    if (column < dim) Store(out + head.OutAt(query) + column, result[k] / sum);
  }
  if (part == 0) log_sum_exp[head.row_begin + query] = maximum + logf(sum);
}

// Block (tile of queries, head): dq = scale * sum over keys of ds k.
template <typename T, int kColumns>
__global__ void __launch_bounds__(Tiles<kColumns>::kThreads)
    QueryGradientKernel(AttentionSizes sizes, const T* qkv, const float* log_sum_exp, const T* dout, const float* dot,
                        T* dqkv) {
  constexpr int kTile = Tiles<kColumns>::kTile;
  constexpr int kScores = Tiles<kColumns>::kScores;
  const Place<kTile> place = PlaceOf<kTile>(sizes, /*queries=*/true);
  const Head& head = place.head;
  const int dim = head.dim, pitch = place.pitch, row = place.row, part = place.part;
  const int query = place.position;
  float* const queries = place.Tile(0);
  float* const gradients = place.Tile(1);
  float* const keys = place.Tile(2);
  float* const values = place.Tile(3);
  float* const ds = place.Scores(4, 0);
  const T* const base = qkv + head.qkv_begin;
  LoadTile<kTile>(base, head.qkv_stride, place.first, head, pitch, queries);
  LoadTile<kTile>(dout + head.out_begin, head.out_stride, place.first, head, pitch, gradients);
  const float row_log = place.inside ? log_sum_exp[head.row_begin + query] : 0.0F;
  const float row_dot = place.inside ? dot[head.row_begin + query] : 0.0F;

  float result[kColumns] = {};
  const int key_end = head.KeyEnd(place.first + kTile);
  for (int first_key = 0; first_key < key_end; first_key += kTile) {
    __syncthreads();  // the last tile has been used
    LoadTile<kTile>(base + dim, head.qkv_stride, first_key, head, pitch, keys);
    LoadTile<kTile>(base + 2 * dim, head.qkv_stride, first_key, head, pitch, values);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kScores; ++k) {
      const int key = part + k * kRowThreads;
      float d = 0;
      if (place.inside && head.Shows(first_key + key, query)) {
        const float p = expf(Dot(queries + row * pitch, keys + key * pitch, dim) * place.scale - row_log);
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
  if (!place.inside) return;
#pragma unroll
  for (int k = 0; k < kColumns; ++k) {
    const int column = part + k * kRowThreads;
    if (column < dim) Store(dqkv + head.QkvAt(query) + column, result[k] * place.scale);
  }
}

// Block (tile of keys, head): dv = sum over queries of p dout, dk = scale * sum over queries of ds q. A row is a key.
template <typename T, int kColumns>
__global__ void __launch_bounds__(Tiles<kColumns>::kThreads)
    KeyGradientKernel(AttentionSizes sizes, const T* qkv, const float* log_sum_exp, const T* dout, const float* dot,
                      T* dqkv) {
  constexpr int kTile = Tiles<kColumns>::kTile;
  constexpr int kScores = Tiles<kColumns>::kScores;
  const Place<kTile> place = PlaceOf<kTile>(sizes, /*queries=*/false);
  const Head& head = place.head;
  const int dim = head.dim, pitch = place.pitch, row = place.row, part = place.part;
  const int key = place.position;
  float* const keys = place.Tile(0);
  float* const values = place.Tile(1);
  float* const queries = place.Tile(2);
  float* const gradients = place.Tile(3);
  float* const p = place.Scores(4, 0);
  float* const ds = place.Scores(4, 1);
  const T* const base = qkv + head.qkv_begin;
  LoadTile<kTile>(base + dim, head.qkv_stride, place.first, head, pitch, keys);
  LoadTile<kTile>(base + 2 * dim, head.qkv_stride, place.first, head, pitch, values);

  float key_result[kColumns] = {};
  float value_result[kColumns] = {};
  for (int first_query = head.QueryBegin(place.first); first_query < head.seq_length; first_query += kTile) {
    __syncthreads();  // the last tile has been used
    LoadTile<kTile>(base, head.qkv_stride, first_query, head, pitch, queries);
    LoadTile<kTile>(dout + head.out_begin, head.out_stride, first_query, head, pitch, gradients);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kScores; ++k) {
      const int at = part + k * kRowThreads;
      const int query = first_query + at;
      float probability = 0;
      float d = 0;
      if (query < head.seq_length && head.Shows(key, query)) {
        probability = expf(Dot(queries + at * pitch, keys + row * pitch, dim) * place.scale -
                           log_sum_exp[head.row_begin + query]);
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
  if (!place.inside) return;
  T* const to = dqkv + head.QkvAt(key);
#pragma unroll
  for (int k = 0; k < kColumns; ++k) {
    const int column = part + k * kRowThreads;
    if (column < dim) {
      Store(to + dim + column, key_result[k] * place.scale);
      Store(to + 2 * dim + column, value_result[k]);
    }
  }
}

template <int kColumns, typename... Parameters, typename... Arguments>
cudaError_t LaunchTiles(void (*kernel)(Parameters...), const AttentionSizes& sizes, int tiles, int scores,
                        cudaStream_t stream, Arguments... arguments) {
  if (PlainTileRows(sizes.head_dim) != Tiles<kColumns>::kTile) return cudaErrorInvalidValue;
  const auto bytes = static_cast<size_t>(PlainSharedBytes(sizes.head_dim, tiles, scores));
  return LaunchHeads(kernel, sizes, Tiles<kColumns>::kTile, Tiles<kColumns>::kThreads, bytes, stream, arguments...);
}

template <typename T, int kColumns>
cudaError_t Forward(const AttentionSizes& sizes, const T* qkv, T* out, float* log_sum_exp, cudaStream_t stream) {
  return LaunchTiles<kColumns>(ForwardKernel<T, kColumns>, sizes, 3, 1, stream, qkv, out, log_sum_exp);
}

template <typename T, int kColumns>
cudaError_t Backward(const AttentionSizes& sizes, const T* qkv, const float* log_sum_exp, const T* dout,
                     const float* dot, T* dqkv, cudaStream_t stream) {
  const cudaError_t error =
      LaunchTiles<kColumns>(QueryGradientKernel<T, kColumns>, sizes, 4, 1, stream, qkv, log_sum_exp, dout, dot, dqkv);
  if (error != cudaSuccess) return error;
  return LaunchTiles<kColumns>(KeyGradientKernel<T, kColumns>, sizes, 4, 2, stream, qkv, log_sum_exp, dout, dot, dqkv);
}

// bf16 comes here with large heads alone: there are no kernels of its for small ones.
template <typename T>
constexpr bool kSmallHeads = sizeof(T) == sizeof(float);

}  // namespace

template <typename T>
cudaError_t PlainAttentionForward(const AttentionSizes& sizes, const T* qkv, T* out, float* log_sum_exp,
                                  cudaStream_t stream) {
  if constexpr (kSmallHeads<T>) {
    if (sizes.head_dim <= 64) return Forward<T, 8>(sizes, qkv, out, log_sum_exp, stream);
    if (sizes.head_dim <= 128) return Forward<T, 16>(sizes, qkv, out, log_sum_exp, stream);
  }
  return Forward<T, 32>(sizes, qkv, out, log_sum_exp, stream);
}

template <typename T>
cudaError_t PlainAttentionBackward(const AttentionSizes& sizes, const T* qkv, const float* log_sum_exp, const T* dout,
                                   const float* dot, T* dqkv, cudaStream_t stream) {
  if constexpr (kSmallHeads<T>) {
    if (sizes.head_dim <= 64) return Backward<T, 8>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
    if (sizes.head_dim <= 128) return Backward<T, 16>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
  }
  return Backward<T, 32>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
}

template cudaError_t PlainAttentionForward(const AttentionSizes&, const float*, float*, float*, cudaStream_t);
template cudaError_t PlainAttentionForward(const AttentionSizes&, const Bf16*, Bf16*, float*, cudaStream_t);
template cudaError_t PlainAttentionBackward(const AttentionSizes&, const float*, const float*, const float*,
                                            const float*, float*, cudaStream_t);
template cudaError_t PlainAttentionBackward(const AttentionSizes&, const Bf16*, const float*, const Bf16*, const float*,
                                            Bf16*, cudaStream_t);

}  // namespace penstock::cuda
