// Where a block of attention's kernels works: one head of one sample. And how they are launched.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_HEAD_CUH_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_HEAD_CUH_

#include "worker/ops/cuda/kernels/attention_sizes.h"
#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {

// Positions and strides are ints (kSeqLengthMax, kStrideMax): registers are what these kernels are short of.
struct Head {
  int seq_length;
  int dim;
  bool causal;
  int qkv_stride;  // from a position to the next
  int out_stride;
  int64_t qkv_begin;  // of position 0's query; its key and value follow
  int64_t out_begin;
  int64_t row_begin;  // in (batch, heads, seq)

  // Where a position's row begins.
  __device__ int64_t QkvAt(int position) const { return qkv_begin + static_cast<int64_t>(position) * qkv_stride; }
  __device__ int64_t OutAt(int position) const { return out_begin + static_cast<int64_t>(position) * out_stride; }
  __device__ bool Shows(int key, int query) const { return key < seq_length && (!causal || key <= query); }
  // Behind the last key that shows to a query before query_end.
  __device__ int KeyEnd(int query_end) const { return causal && query_end < seq_length ? query_end : seq_length; }
  // The first query that sees the key.
  __device__ int QueryBegin(int key) const { return causal ? key : 0; }
  __device__ float Scale() const { return 1.0F / sqrtf(static_cast<float>(dim)); }
};

// Of (batch, heads), number `index`.
__device__ inline Head HeadOf(const AttentionSizes& s, int64_t index) {
  const int64_t b = index / s.heads;
  const int64_t h = index % s.heads;
  Head head;
  head.seq_length = static_cast<int>(s.seq_length);
  head.dim = static_cast<int>(s.head_dim);
  head.causal = s.causal;
  head.qkv_stride = static_cast<int>(s.heads * 3 * s.head_dim);
  head.out_stride = static_cast<int>(s.heads * s.head_dim);
  head.qkv_begin = b * s.seq_length * head.qkv_stride + h * 3 * s.head_dim;
  head.out_begin = b * s.seq_length * head.out_stride + h * s.head_dim;
  head.row_begin = index * s.seq_length;
  return head;
}

// Of a block for each `rows` positions of each head.
__device__ inline TilePlace PlaceOfBlock(const AttentionSizes& s, int rows) {
  return PlaceOfTile(blockIdx.x, (s.seq_length + rows - 1) / rows, s.batch * s.heads, HeadGroup(s));
}
// Where the tile's rows begin: if causal, late queries have most to do, and as keys the early ones.
__device__ inline int FirstQuery(const AttentionSizes& s, const TilePlace& place, int rows) {
  return (static_cast<int>((s.seq_length + rows - 1) / rows - 1) - static_cast<int>(place.tile)) * rows;
}
__device__ inline int FirstKey(const TilePlace& place, int rows) { return static_cast<int>(place.tile) * rows; }

// A block for each `rows` positions of each head, with more dynamic shared memory than a kernel has by default. All in
// a grid's x: y and z end at 65535.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchHeads(void (*kernel)(Parameters...), const AttentionSizes& sizes, int rows, int threads,
                        size_t shared_bytes, cudaStream_t stream, Arguments... arguments) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error != cudaSuccess) return error;
  return Launch(kernel, dim3(BlocksFor(sizes.seq_length, rows) * sizes.heads * sizes.batch),
                dim3(static_cast<unsigned>(threads)), shared_bytes, stream, sizes, arguments...);
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_HEAD_CUH_
