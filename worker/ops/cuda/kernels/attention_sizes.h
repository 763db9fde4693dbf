// What an attention's launches have in common: its sizes, and how tensor cores' kernels cut them into tiles. Pure.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_SIZES_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_SIZES_H_

#include <cstdint>

#include "worker/ops/cuda/kernels/host_device.h"

namespace penstock::cuda {

inline constexpr int64_t kHeadDimMax = 256;
inline constexpr int64_t kSeqLengthMax = int64_t{1} << 30;
inline constexpr int64_t kStrideMax = int64_t{1} << 30;  // of 3 * heads * head_dim

struct AttentionSizes {
  int64_t batch;
  int64_t seq_length;  // up to kSeqLengthMax
  int64_t heads;
  int64_t head_dim;    // up to kHeadDimMax
  bool causal = true;  // position t sees 0..t; else all
};

// Which tile of which of (batch, heads) a block has. Blocks begin in the order of their numbers. Heads come in groups,
// whose keys and values lie in the L2 cache together; of a group's tiles those that have most to do come first (number
// 0, by the caller's counting), so that at the end no multiprocessor is left alone with a long one.
struct TilePlace {
  int64_t head;
  int64_t tile;
};
inline constexpr int64_t kHeadGroupBytes = int64_t{16} << 20;  // an H100 has 50 MB, and a group follows the other

PENSTOCK_HOST_DEVICE constexpr int64_t HeadGroup(const AttentionSizes& sizes) {
  const int64_t heads = kHeadGroupBytes / (2 * 2 * sizes.seq_length * sizes.head_dim);  // in bf16
  return heads < 1 ? 1 : heads;
}
// `tiles` of a head, `heads` in all.
PENSTOCK_HOST_DEVICE constexpr TilePlace PlaceOfTile(int64_t number, int64_t tiles, int64_t heads, int64_t group) {
  const int64_t first = number / (tiles * group) * group;
  const int64_t size = heads - first < group ? heads - first : group;
  const int64_t within = number - first * tiles;
  return {.head = first + within % size, .tile = within / size};
}

// A block owns rows of one side (queries, or keys for their gradients) and goes through the other side's.
//
// Four warps, each with `row_blocks` times 16 rows. What it owns stays in shared memory; of what it goes through there
// are two steps there, one that is computed with while the next one arrives. Rows are padded by 16 bytes (mma.cuh).
inline constexpr int kTensorWarps = 4;
inline constexpr int kTensorThreads = kTensorWarps * 32;

struct AttentionTiles {
  int dim;         // of a head, as the tiles have it: columns behind the head's own are zeros
  int row_blocks;  // of 16 rows, of a warp
  int columns;     // rows of the other side, in a step
  int owned;       // matrices that a block owns rows of
  int statistics;  // floats for each of `columns`

  PENSTOCK_HOST_DEVICE constexpr int rows() const { return kTensorWarps * 16 * row_blocks; }
  PENSTOCK_HOST_DEVICE constexpr int pitch() const { return dim + 8; }
  PENSTOCK_HOST_DEVICE constexpr int owned_elements() const { return owned * rows() * pitch(); }
  // The other side always has two matrices.
  PENSTOCK_HOST_DEVICE constexpr int step_elements() const { return 2 * columns * pitch(); }
  PENSTOCK_HOST_DEVICE constexpr int shared_bytes() const {
    return 2 * (owned_elements() + 2 * step_elements()) + 2 * statistics * columns * 4;
  }
};

// The tiles' head sizes; a larger head goes to the ordinary cores.
inline constexpr int kTensorHeadDims[] = {64, 96, 128};
inline constexpr int64_t kTensorHeadDimMax = 128;

// Why these: attention_tensor.cu and attention_tensor_gradient.cu.
PENSTOCK_HOST_DEVICE constexpr AttentionTiles ForwardTiles(int dim) {
  return {.dim = dim, .row_blocks = 2, .columns = dim <= 64 ? 64 : 32, .owned = 1, .statistics = 0};
}
PENSTOCK_HOST_DEVICE constexpr AttentionTiles QueryGradientTiles(int dim) {
  return {.dim = dim, .row_blocks = dim <= 64 ? 2 : 1, .columns = 32, .owned = 2, .statistics = 0};
}
PENSTOCK_HOST_DEVICE constexpr AttentionTiles KeyGradientTiles(int dim) {
  return {.dim = dim, .row_blocks = 1, .columns = dim <= 64 ? 64 : 32, .owned = 2, .statistics = 2};
}

// The ordinary cores' tiles (attention_plain.cu): of as many queries as keys, in fp32, rows of an odd pitch so that
// those read beside each other are in different banks. Scores are (rows, rows + 1).
PENSTOCK_HOST_DEVICE constexpr int PlainTileRows(int64_t head_dim) { return head_dim > 128 ? 16 : 32; }
PENSTOCK_HOST_DEVICE constexpr int PlainPitch(int64_t head_dim) { return static_cast<int>(head_dim) | 1; }
PENSTOCK_HOST_DEVICE constexpr int PlainSharedBytes(int64_t head_dim, int tiles, int scores) {
  const int rows = PlainTileRows(head_dim);
  return (tiles * rows * PlainPitch(head_dim) + scores * rows * (rows + 1)) * 4;
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_SIZES_H_
