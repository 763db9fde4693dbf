// FlashAttention-2's forward pass (Dao 2023) on tensor cores. A warp keeps 32 queries' sums in registers and goes
// through keys and values, 64 (heads of 64) or 32 at a time; the scores never leave the registers either.
//
// Work: 4 T² dim FLOPs for a head, half of that if causal. Memory: a block reads its head's keys and values once, from
// the L2 cache but for the first of them: 4 dim T bytes for 4 * 128 T dim FLOPs, 128 FLOPs a byte. Shared memory: a
// warp loads 5 dim bytes for each key (queries again in each step) and computes 4 * 32 dim FLOPs with them, 26 FLOPs a
// byte, where A100's tensor cores (2048 FLOPs a clock beside 128 bytes) want 16. Registers (nvcc 13): 234 to 255, none
// spilled; two blocks for a multiprocessor.
//
// A step with heads of 64 (64 keys), whole tiles without a mask, on sm_90a: for each of its two warps a quarter of a
// multiprocessor needs 645 clocks to issue 645 instructions (heads of 128: 520), 128 of them HMMA; 830 for these at the
// 0.62 of wgmma's rate that mma.sync reaches; 544 for 68 exponentials at 4 a clock; 640 for 40 LDSM of 512 bytes at 32
// a clock. So 0.62 of the peak is the bound; how much of it is left when two warps share all that is to be measured.
// FlashAttention-2 has the same tiles and the same bound.
#include "worker/ops/cuda/kernels/attention_tensor.h"

#include "worker/ops/cuda/kernels/attention_tensor.cuh"

namespace penstock::cuda {
namespace {

// The softmax of a warp's rows so far. A thread has two rows of each block, which it shares with its three neighbours.
template <int kBlocks>
struct OnlineSoftmax {
  float maximum[kBlocks][2];
  float sum[kBlocks][2];  // of the thread's own columns
};

// Scores become probabilities, relative to the rows' maximum so far; what has been summed up before is brought to it.
template <int kBlocks, int kTiles, int kOutTiles>
__device__ __forceinline__ void Normalise(float scale_log2, Accumulator (&scores)[kBlocks][kTiles],
                                          OnlineSoftmax<kBlocks>& softmax, Accumulator (&out)[kBlocks][kOutTiles]) {
#pragma unroll
  for (int i = 0; i < kBlocks * 2; ++i) {
    const int m = i / 2, half = i % 2;
    float largest = softmax.maximum[m][half];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      largest = fmaxf(largest, fmaxf(scores[m][n].v[half * 2], scores[m][n].v[half * 2 + 1]));
    }
    largest = GroupMax<4>(largest);  // finite: key 0 shows to everybody
    const float correction = Exp2((softmax.maximum[m][half] - largest) * scale_log2);
    const float shift = largest * scale_log2;
    softmax.maximum[m][half] = largest;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      float* const pair = scores[m][n].v + half * 2;
      pair[0] = Exp2(ieee::Fma(pair[0], scale_log2, -shift));
      pair[1] = Exp2(ieee::Fma(pair[1], scale_log2, -shift));
      sum += pair[0] + pair[1];
    }
    softmax.sum[m][half] = softmax.sum[m][half] * correction + sum;
    if (correction != 1.0F) {  // after the first keys it mostly is
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        out[m][n].v[half * 2] *= correction;
        out[m][n].v[half * 2 + 1] *= correction;
      }
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kTensorThreads, 2)
    ForwardKernel(AttentionSizes sizes, const Bf16* qkv, bool aligned, Bf16* out, float* log_sum_exp) {
  constexpr AttentionTiles kTiles = ForwardTiles(kDim);
  constexpr int kBlocks = kTiles.row_blocks;
  constexpr int kRows = kTiles.rows();
  constexpr int kKeys = kTiles.columns;
  constexpr int kStep = kTiles.step_elements();
  PENSTOCK_DYNAMIC_SHARED(Bf16, shared);
  const TilePlace place = PlaceOfBlock(sizes, kRows);
  const Head head = HeadOf(sizes, place.head);
  const Rows queries = {qkv + head.qkv_begin, head.qkv_stride};
  const Rows keys = {queries.begin + head.dim, head.qkv_stride};
  const Rows values = {keys.begin + head.dim, head.qkv_stride};
  Bf16* const steps = shared + kTiles.owned_elements();
  const int first_query = FirstQuery(sizes, place, kRows);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpThreads * kMmaRows * kBlocks;
  const int warp_query = first_query + warp_row;
  const int warp_key_end = warp_query < head.seq_length ? head.KeyEnd(warp_query + kMmaRows * kBlocks) : 0;
  const int key_end = head.KeyEnd(first_query + kRows);
  const float scale_log2 = head.Scale() * kLog2E;

  const auto copy = [&](int key, int step) {
    CopyTile<kDim, kKeys>(keys, key, head, aligned, steps + step * kStep);
    CopyTile<kDim, kKeys>(values, key, head, aligned, steps + step * kStep + kStep / 2);
    CommitCopies();
  };
  CopyTile<kDim, kRows>(queries, first_query, head, aligned, shared);
  copy(0, 0);
  OnlineSoftmax<kBlocks> softmax;
#pragma unroll
  for (int i = 0; i < kBlocks * 2; ++i) {
    softmax.maximum[i / 2][i % 2] = -INFINITY;
    softmax.sum[i / 2][i % 2] = 0;
  }
  Accumulator result[kBlocks][kDim / kMmaColumns];
  Clear(result);
  int step = 0;
  for (int first_key = 0; first_key < key_end; first_key += kKeys, step ^= 1) {
    WaitForCopies<0>();
    __syncthreads();  // this step is there for all, and the other one has been used by all
    if (first_key + kKeys < key_end) copy(first_key + kKeys, step ^ 1);
    if (first_key >= warp_key_end) continue;  // the whole warp
    Accumulator scores[kBlocks][kKeys / kMmaColumns];
    RowProducts<kDim>(shared + warp_row * kTiles.pitch(), steps + step * kStep, scores);
    if (first_key + kKeys > head.KeyEnd(warp_query + 1)) {
      Mask([&](int row, int column) { return head.Shows(first_key + column, warp_query + row); }, scores);
    }
    Normalise(scale_log2, scores, softmax, result);
    AddProduct<kDim>(scores, steps + step * kStep + kStep / 2, result);
  }

  if (warp_query >= head.seq_length) return;  // the whole warp
  float reciprocal[kBlocks][2];
#pragma unroll
  for (int i = 0; i < kBlocks * 2; ++i) {
    const int m = i / 2, half = i % 2;
    const float sum = GroupSum<4>(softmax.sum[m][half]);
    reciprocal[m][half] = 1.0F / sum;
    const int query = warp_query + m * kMmaRows + half * 8 + threadIdx.x % kWarpThreads / 4;
    if (threadIdx.x % 4 == 0 && query < head.seq_length) {
      log_sum_exp[head.row_begin + query] = softmax.maximum[m][half] * head.Scale() + logf(sum);
    }
  }
  StoreRows<kDim>(result, reciprocal, warp_query, head, aligned, head.out_stride, out + head.out_begin);
}

template <int kDim>
cudaError_t Run(const AttentionSizes& sizes, const Bf16* qkv, Bf16* out, float* log_sum_exp, cudaStream_t stream) {
  return LaunchTensor(ForwardTiles(kDim), ForwardKernel<kDim>, sizes, stream, qkv, CopiesAligned(sizes, qkv, out, out),
                      out, log_sum_exp);
}

}  // namespace

cudaError_t TensorAttentionForward(const AttentionSizes& sizes, const Bf16* qkv, Bf16* out, float* log_sum_exp,
                                   cudaStream_t stream) {
  if (sizes.head_dim <= 64) return Run<64>(sizes, qkv, out, log_sum_exp, stream);
  if (sizes.head_dim <= 96) return Run<96>(sizes, qkv, out, log_sum_exp, stream);
  if (sizes.head_dim <= kTensorHeadDimMax) return Run<128>(sizes, qkv, out, log_sum_exp, stream);
  return cudaErrorInvalidValue;
}

}  // namespace penstock::cuda
