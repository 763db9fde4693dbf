// What attention's kernels on tensor cores share: tiles of bf16 in shared memory, a warp's products with them.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_CUH_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_CUH_

#include "worker/ops/cuda/kernels/adamw_element.h"
#include "worker/ops/cuda/kernels/attention_head.cuh"
#include "worker/ops/cuda/kernels/mma.cuh"

namespace penstock::cuda {

inline constexpr float kLog2E = 1.4426950408889634F;

// A matrix in memory: rows of a head's positions.
struct Rows {
  const Bf16* begin;  // of position 0
  int stride;
};

// Positions [first, first + kRows) into tile (kRows, kDim + 8); zeros beyond the sequence's end and behind the head's
// own columns. By all threads of the block, there after CommitCopies, WaitForCopies and a barrier. `aligned`: every
// row's columns begin at multiples of 16 bytes and are whole ones.
template <int kDim, int kRows>
__device__ __forceinline__ void CopyTile(const Rows& from, int first, const Head& head, bool aligned, Bf16* tile) {
  constexpr int kPitch = kDim + 8;
  if (aligned) {
    constexpr int kVectors = kDim / 8;  // of 16 bytes, of a row
    constexpr int kAtOnce = kTensorThreads / kVectors;
    const int row = static_cast<int>(threadIdx.x) / kVectors;
    const int column = static_cast<int>(threadIdx.x) % kVectors * 8;
    const Bf16* at = from.begin + static_cast<int64_t>(first + row) * from.stride + column;
    const int64_t next = static_cast<int64_t>(kAtOnce) * from.stride;
    Bf16* const to = tile + row * kPitch + column;
    if (kTensorThreads % kVectors != 0 && row >= kAtOnce) return;
    if (kRows % kAtOnce == 0 && head.dim == kDim && first + kRows <= head.seq_length) {  // mostly
#pragma unroll
      for (int k = 0; k < kRows; k += kAtOnce, at += next) CopyAsync16(to + k * kPitch, at);
      return;
    }
    const int rows = column < head.dim ? head.seq_length - first - row : 0;  // that are there, from this one on
#pragma unroll 1
    for (int k = 0; k < kRows - (kRows % kAtOnce == 0 ? 0 : row); k += kAtOnce, at += next) {
      CopyAsync16(to + k * kPitch, k < rows ? at : from.begin, k < rows);
    }
    return;
  }
  for (int i = threadIdx.x; i < kRows * kDim; i += kTensorThreads) {
    const int row = i / kDim;
    const int column = i % kDim;
    const int position = first + row;
    const bool inside = position < head.seq_length && column < head.dim;
    tile[row * kPitch + column] = inside ? from.begin[static_cast<int64_t>(position) * from.stride + column] : Bf16{0};
  }
}

template <int kBlocks, int kTiles>
__device__ __forceinline__ void Clear(Accumulator (&c)[kBlocks][kTiles]) {
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) c[m][n] = {{0.0F, 0.0F, 0.0F, 0.0F}};
  }
}

// c (16 kBlocks, 8 kTiles) = a bᵀ: rows of two tiles in shared memory.
template <int kDim, int kBlocks, int kTiles>
__device__ __forceinline__ void RowProducts(const Bf16* a, const Bf16* b, Accumulator (&c)[kBlocks][kTiles]) {
  constexpr int kPitch = kDim + 8;
  Clear(c);
#pragma unroll
  for (int k = 0; k < kDim; k += kMmaDepth) {
    FragmentA left[kBlocks];
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) left[m] = LoadA(a + m * kMmaRows * kPitch + k, kPitch);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      FragmentB right[2];
      LoadTransposedB(b + n * kMmaColumns * kPitch + k, kPitch, right);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        Mma(c[m][n], left[m], right[0]);
        Mma(c[m][n + 1], left[m], right[1]);
      }
    }
  }
}

// c (16 kBlocks, kDim) += p b: p (16 kBlocks, 8 kTiles) from a product's registers, rounded; b (8 kTiles, kDim) a tile
// in shared memory.
template <int kDim, int kBlocks, int kTiles>
__device__ __forceinline__ void AddProduct(const Accumulator (&p)[kBlocks][kTiles], const Bf16* b,
                                           Accumulator (&c)[kBlocks][kDim / kMmaColumns]) {
  constexpr int kPitch = kDim + 8;
#pragma unroll
  for (int k = 0; k < kTiles; k += 2) {
    FragmentA left[kBlocks];
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) left[m] = RoundToA(p[m][k], p[m][k + 1]);
#pragma unroll
    for (int n = 0; n < kDim / kMmaColumns; n += 2) {
      FragmentB right[2];
      LoadB(b + k * kMmaColumns * kPitch + n * kMmaColumns, kPitch, right);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        Mma(c[m][n], left[m], right[0]);
        Mma(c[m][n + 1], left[m], right[1]);
      }
    }
  }
}

// What doesn't show becomes -infinity; `shows` takes a row and a column of c. For the few tiles that need it: the
// others shouldn't pay for it.
template <int kBlocks, int kTiles, typename Shows>
__device__ __forceinline__ void Mask(const Shows& shows, Accumulator (&c)[kBlocks][kTiles]) {
  const int lane = threadIdx.x % kWarpThreads;
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (!shows(m * kMmaRows + k / 2 * 8 + lane / 4, n * kMmaColumns + lane % 4 * 2 + k % 2)) {
          c[m][n].v[k] = -INFINITY;
        }
      }
    }
  }
}

// Rows g and g + 8 of each block of c, times factor[block][0 and 1], to the head's columns of the positions from
// `first` on.
template <int kDim, int kBlocks>
__device__ __forceinline__ void StoreRows(const Accumulator (&c)[kBlocks][kDim / kMmaColumns],
                                          const float (&factor)[kBlocks][2], int first, const Head& head, bool aligned,
                                          int64_t stride, Bf16* to) {
  const int lane = threadIdx.x % kWarpThreads;
#pragma unroll
  for (int i = 0; i < kBlocks * 2; ++i) {
    const int m = i / 2, half = i % 2;
    const int position = first + m * kMmaRows + half * 8 + lane / 4;
    if (position >= head.seq_length) continue;
    Bf16* const row = to + static_cast<int64_t>(position) * stride;
#pragma unroll
    for (int n = 0; n < kDim / kMmaColumns; ++n) {
      const int column = n * kMmaColumns + lane % 4 * 2;
      const float low = c[m][n].v[half * 2] * factor[m][half];
      const float high = c[m][n].v[half * 2 + 1] * factor[m][half];
      if (aligned) {
        if (column < head.dim) *reinterpret_cast<unsigned*>(row + column) = RoundPair(low, high);
      } else {
        if (column < head.dim) Store(row + column, low);
        if (column + 1 < head.dim) Store(row + column + 1, high);
      }
    }
  }
}

// Whether tiles may be copied by 16 bytes: the rows of qkv and of out are as aligned as their first one.
inline bool CopiesAligned(const AttentionSizes& sizes, const void* qkv, const void* out, const void* dqkv) {
  const auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; };
  return sizes.head_dim % 8 == 0 && aligned(qkv) && aligned(out) && aligned(dqkv);
}

template <typename... Parameters, typename... Arguments>
cudaError_t LaunchTensor(const AttentionTiles& tiles, void (*kernel)(Parameters...), const AttentionSizes& sizes,
                         cudaStream_t stream, Arguments... arguments) {
  return LaunchHeads(kernel, sizes, tiles.rows(), kTensorThreads, static_cast<size_t>(tiles.shared_bytes()), stream,
                     arguments...);
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ATTENTION_TENSOR_CUH_
