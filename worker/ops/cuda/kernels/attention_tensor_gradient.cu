// FlashAttention-2's backward pass (Dao 2023) on tensor cores, in two kernels without atomics: one owns queries and
// goes through keys, one owns keys and goes through queries. Both compute the scores again from the saved log-sum-exp.
//
// Work: 2 T² dim FLOPs for each of seven products of a head (five if dq were added up across blocks by atomics, in an
// order of their own): 14 T² dim, half of that if causal. The tiles are as large as the registers allow without
// spilling: dq of 32 (heads of 64) or 16 queries, dk and dv, twice as much, of 16 keys; two blocks for a
// multiprocessor. So shared memory is the limit: the second kernel's warp loads 8 dim bytes for each query and 64 dim
// for its own keys and values in each step (of 32 queries, 64 with heads of 64), for 128 dim FLOPs a query: 13 to 14
// FLOPs a byte, where A100's tensor cores (2048 FLOPs a clock beside 128 bytes) could use 16. The first kernel has 19
// with heads of 64, else 12.
//
// Instructions of a step with heads of 64, whole tiles without a mask, on sm_90a: 400 for 96 HMMA, 560 for 128. That
// is 4.3 for each, and mma.sync takes 6.5 clocks there: issuing isn't the limit.
#include "worker/ops/cuda/kernels/attention_tensor_gradient.h"

#include "worker/ops/cuda/kernels/attention_tensor.cuh"

namespace penstock::cuda {
namespace {

// `log2`: the base-2 logarithm of the row's sum of exponentials.
__device__ __forceinline__ float Probability(float scale_log2, float log2, float score) {
  return Exp2(ieee::Fma(score, scale_log2, -log2));
}

// dq = scale * sum over keys of ds k.
template <int kDim>
__global__ void __launch_bounds__(kTensorThreads, 2)
    QueryGradientKernel(AttentionSizes sizes, const Bf16* qkv, const float* log_sum_exp, const Bf16* dout,
                        const float* dot, bool aligned, Bf16* dqkv) {
  constexpr AttentionTiles kTiles = QueryGradientTiles(kDim);
  constexpr int kBlocks = kTiles.row_blocks;
  constexpr int kRows = kTiles.rows();
  constexpr int kKeys = kTiles.columns;
  constexpr int kKeyTiles = kKeys / kMmaColumns;
  constexpr int kStep = kTiles.step_elements();
  PENSTOCK_DYNAMIC_SHARED(Bf16, shared);
  const TilePlace place = PlaceOfBlock(sizes, kRows);
  const Head head = HeadOf(sizes, place.head);
  const Rows queries = {qkv + head.qkv_begin, head.qkv_stride};
  const Rows keys = {queries.begin + head.dim, head.qkv_stride};
  const Rows values = {keys.begin + head.dim, head.qkv_stride};
  const Rows gradients = {dout + head.out_begin, head.out_stride};
  Bf16* const own_gradients = shared + kTiles.owned_elements() / 2;
  Bf16* const steps = shared + kTiles.owned_elements();
  const int first_query = FirstQuery(sizes, place, kRows);
  const int lane = threadIdx.x % kWarpThreads;
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
  CopyTile<kDim, kRows>(gradients, first_query, head, aligned, own_gradients);
  copy(0, 0);
  float row_log[kBlocks][2], row_dot[kBlocks][2], factor[kBlocks][2];
#pragma unroll
  for (int i = 0; i < kBlocks * 2; ++i) {
    const int query = warp_query + i / 2 * kMmaRows + i % 2 * 8 + lane / 4;
    const bool inside = query < head.seq_length;
    row_log[i / 2][i % 2] = inside ? log_sum_exp[head.row_begin + query] * kLog2E : 0.0F;
    row_dot[i / 2][i % 2] = inside ? dot[head.row_begin + query] : 0.0F;
    factor[i / 2][i % 2] = head.Scale();
  }
  Accumulator result[kBlocks][kDim / kMmaColumns];
  Clear(result);
  int step = 0;
  for (int first_key = 0; first_key < key_end; first_key += kKeys, step ^= 1) {
    WaitForCopies<0>();
    __syncthreads();  // this step is there for all, and the other one has been used by all
    if (first_key + kKeys < key_end) copy(first_key + kKeys, step ^ 1);
    if (first_key >= warp_key_end) continue;  // the whole warp
    Accumulator scores[kBlocks][kKeyTiles], ds[kBlocks][kKeyTiles];
    RowProducts<kDim>(shared + warp_row * kTiles.pitch(), steps + step * kStep, scores);
    RowProducts<kDim>(own_gradients + warp_row * kTiles.pitch(), steps + step * kStep + kStep / 2, ds);
    if (first_key + kKeys > head.KeyEnd(warp_query + 1)) {
      Mask([&](int row, int column) { return head.Shows(first_key + column, warp_query + row); }, scores);
    }
#pragma unroll
    for (int i = 0; i < kBlocks * kKeyTiles * 4; ++i) {
      const int m = i / 4 / kKeyTiles, n = i / 4 % kKeyTiles, k = i % 4;
      const float p = Probability(scale_log2, row_log[m][k / 2], scores[m][n].v[k]);
      ds[m][n].v[k] = p * (ds[m][n].v[k] - row_dot[m][k / 2]);
    }
    AddProduct<kDim>(ds, steps + step * kStep, result);
  }
  if (warp_query >= head.seq_length) return;  // the whole warp
  StoreRows<kDim>(result, factor, warp_query, head, aligned, head.qkv_stride, dqkv + head.qkv_begin);
}

// dv = sum over queries of p dout, dk = scale * sum over queries of ds q. A row of scores is a key's.
template <int kDim>
__global__ void __launch_bounds__(kTensorThreads, 2)
    KeyGradientKernel(AttentionSizes sizes, const Bf16* qkv, const float* log_sum_exp, const Bf16* dout,
                      const float* dot, bool aligned, Bf16* dqkv) {
  constexpr AttentionTiles kTiles = KeyGradientTiles(kDim);
  constexpr int kBlocks = kTiles.row_blocks;
  constexpr int kRows = kTiles.rows();
  constexpr int kQueries = kTiles.columns;
  constexpr int kQueryTiles = kQueries / kMmaColumns;
  constexpr int kStep = kTiles.step_elements();
  PENSTOCK_DYNAMIC_SHARED(Bf16, shared);
  const TilePlace place = PlaceOfBlock(sizes, kRows);
  const Head head = HeadOf(sizes, place.head);
  const Rows queries = {qkv + head.qkv_begin, head.qkv_stride};
  const Rows keys = {queries.begin + head.dim, head.qkv_stride};
  const Rows values = {keys.begin + head.dim, head.qkv_stride};
  const Rows gradients = {dout + head.out_begin, head.out_stride};
  Bf16* const own_values = shared + kTiles.owned_elements() / 2;
  Bf16* const steps = shared + kTiles.owned_elements();
  // For each of two steps, of its queries: log-sum-exps, then dots.
  float* const statistics = reinterpret_cast<float*>(steps + 2 * kStep);
  const int first_key = FirstKey(place, kRows);
  const int lane = threadIdx.x % kWarpThreads;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpThreads * kMmaRows * kBlocks;
  const int warp_key = first_key + warp_row;
  const int warp_query_begin = warp_key < head.seq_length ? head.QueryBegin(warp_key) : head.seq_length;
  const float scale_log2 = head.Scale() * kLog2E;

  const auto copy = [&](int query, int step) {
    CopyTile<kDim, kQueries>(queries, query, head, aligned, steps + step * kStep);
    CopyTile<kDim, kQueries>(gradients, query, head, aligned, steps + step * kStep + kStep / 2);
    static_assert(2 * kQueries <= kTensorThreads);
    if (threadIdx.x < 2 * kQueries) {
      const float* const from = (threadIdx.x < kQueries ? log_sum_exp : dot) + head.row_begin;
      const int position = query + threadIdx.x % kQueries;
      const bool inside = position < head.seq_length;
      CopyAsync4(statistics + step * 2 * kQueries + threadIdx.x, inside ? from + position : from, inside);
    }
    CommitCopies();
  };
  CopyTile<kDim, kRows>(keys, first_key, head, aligned, shared);
  CopyTile<kDim, kRows>(values, first_key, head, aligned, own_values);
  const int query_begin = head.QueryBegin(first_key);
  copy(query_begin, 0);
  Accumulator key_result[kBlocks][kDim / kMmaColumns], value_result[kBlocks][kDim / kMmaColumns];
  Clear(key_result);
  Clear(value_result);
  int step = 0;
  for (int first_query = query_begin; first_query < head.seq_length; first_query += kQueries, step ^= 1) {
    WaitForCopies<0>();
    __syncthreads();  // this step is there for all, and the other one has been used by all
    if (first_query + kQueries < head.seq_length) copy(first_query + kQueries, step ^ 1);
    if (first_query + kQueries <= warp_query_begin) continue;  // the whole warp
    const float* const logs = statistics + step * 2 * kQueries;
    const float* const dots = logs + kQueries;
    Accumulator p[kBlocks][kQueryTiles], ds[kBlocks][kQueryTiles];
    RowProducts<kDim>(shared + warp_row * kTiles.pitch(), steps + step * kStep, p);
    // Queries behind the sequence's end have gradients of zero, so they add nothing.
    if (head.causal && first_query < warp_key + kMmaRows * kBlocks - 1) {
      Mask([&](int row, int column) { return warp_key + row <= first_query + column; }, p);
    }
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      const float2 log = *reinterpret_cast<const float2*>(logs + n * kMmaColumns + lane % 4 * 2);
      const float log2[2] = {log.x * kLog2E, log.y * kLog2E};
#pragma unroll
      for (int i = 0; i < kBlocks * 4; ++i) {
        float& at = p[i / 4][n].v[i % 4];
        at = Probability(scale_log2, log2[i % 2], at);
      }
    }
    AddProduct<kDim>(p, steps + step * kStep + kStep / 2, value_result);
    RowProducts<kDim>(own_values + warp_row * kTiles.pitch(), steps + step * kStep + kStep / 2, ds);
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      const float2 dot = *reinterpret_cast<const float2*>(dots + n * kMmaColumns + lane % 4 * 2);
#pragma unroll
      for (int i = 0; i < kBlocks * 4; ++i) {
        const int m = i / 4, k = i % 4;
        ds[m][n].v[k] = p[m][n].v[k] * (ds[m][n].v[k] - (k % 2 == 0 ? dot.x : dot.y));
      }
    }
    AddProduct<kDim>(ds, steps + step * kStep, key_result);
  }
  if (warp_key >= head.seq_length) return;  // the whole warp
  float key_factor[kBlocks][2], value_factor[kBlocks][2];
#pragma unroll
  for (int i = 0; i < kBlocks * 2; ++i) {
    key_factor[i / 2][i % 2] = head.Scale();
    value_factor[i / 2][i % 2] = 1;
  }
  Bf16* const to = dqkv + head.qkv_begin + head.dim;
  StoreRows<kDim>(key_result, key_factor, warp_key, head, aligned, head.qkv_stride, to);
  StoreRows<kDim>(value_result, value_factor, warp_key, head, aligned, head.qkv_stride, to + head.dim);
}

template <int kDim>
cudaError_t Run(const AttentionSizes& sizes, const Bf16* qkv, const float* log_sum_exp, const Bf16* dout,
                const float* dot, Bf16* dqkv, cudaStream_t stream) {
  const bool aligned = CopiesAligned(sizes, qkv, dout, dqkv);
  const cudaError_t error = LaunchTensor(QueryGradientTiles(kDim), QueryGradientKernel<kDim>, sizes, stream, qkv,
                                         log_sum_exp, dout, dot, aligned, dqkv);
  if (error != cudaSuccess) return error;
  return LaunchTensor(KeyGradientTiles(kDim), KeyGradientKernel<kDim>, sizes, stream, qkv, log_sum_exp, dout, dot,
                      aligned, dqkv);
}

}  // namespace

cudaError_t TensorAttentionBackward(const AttentionSizes& sizes, const Bf16* qkv, const float* log_sum_exp,
                                    const Bf16* dout, const float* dot, Bf16* dqkv, cudaStream_t stream) {
  if (sizes.head_dim <= 64) return Run<64>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
  if (sizes.head_dim <= 96) return Run<96>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
  if (sizes.head_dim <= kTensorHeadDimMax) return Run<128>(sizes, qkv, log_sum_exp, dout, dot, dqkv, stream);
  return cudaErrorInvalidValue;
}

}  // namespace penstock::cuda
