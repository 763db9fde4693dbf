#include "worker/ops/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/matmul.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/vector.h"

namespace penstock::cpu {
namespace {

// Query rows worked on at a time: a block of scores (64, T) stays in the second-level cache up to T = 2048.
constexpr int64_t kQueryBlock = 64;

// Turns one row of scores over `visible` keys into probabilities; the masked rest of the row becomes 0. Returns the
// log-sum-exp of the visible scores.
float SoftmaxRow(float* scores, int64_t visible, int64_t width) {
  Floats maxima = Splat(scores[0]);
  ForLanes(0, visible, [&](int64_t i, int64_t count) { maxima = Max(LoadUpTo(scores + i, count, scores[0]), maxima); });
  const float maximum = MaxLane(maxima);
  Floats sums{};
  float tail_sum = 0;
  ForLanes(0, visible, [&](int64_t i, int64_t count) {
    const Floats e = Exp(LoadUpTo(scores + i, count, maximum) - maximum);
    StoreUpTo(scores + i, e, count);
    if (count == kLanes) {
      sums += e;
    } else {
      for (int64_t lane = 0; lane < count; ++lane) tail_sum += scores[i + lane];
    }
  });
  const float sum = Sum(sums) + tail_sum;
  const float scale = 1.0F / sum;
  ForLanes(0, visible,
           [&](int64_t i, int64_t count) { StoreUpTo(scores + i, LoadUpTo(scores + i, count) * scale, count); });
  std::fill(scores + visible, scores + width, 0.0F);
  return maximum + std::log(sum);
}

// From scores and dP of one row to P (in place of scores) and dS (in place of dp): dS = P (dP - sum(dO O)) scale.
void BackwardRow(float* scores, float* dp, float log_sum_exp, float dot, float scale, int64_t visible, int64_t width) {
  ForLanes(0, visible, [&](int64_t i, int64_t count) {
    const Floats p = Exp(LoadUpTo(scores + i, count) - log_sum_exp);
    StoreUpTo(scores + i, p, count);
    StoreUpTo(dp + i, p * (LoadUpTo(dp + i, count) - dot) * scale, count);
  });
  std::fill(scores + visible, scores + width, 0.0F);
  std::fill(dp + visible, dp + width, 0.0F);
}

float Dot(const float* a, const float* b, int64_t width) {
  Floats sum{};
  ForLanes(0, width, [&](int64_t i, int64_t count) { sum += LoadUpTo(a + i, count) * LoadUpTo(b + i, count); });
  return Sum(sum);
}

class CpuCausalAttention : public CausalAttention {
 public:
  CpuCausalAttention(const AttentionShape& shape, int threads)
      : shape_(shape),
        threads_(static_cast<int>(std::min<int64_t>(threads, shape.batch * shape.heads))),
        block_elements_(std::min(kQueryBlock, shape.seq_length) * shape.seq_length),
        scale_(1.0F / std::sqrt(static_cast<float>(shape.head_dim))) {}

  // Two blocks of scores for each thread.
  int64_t workspace_bytes() const override {
    return 2 * threads_ * block_elements_ * static_cast<int64_t>(sizeof(float));
  }

  absl::Status Forward(const OpContext& context, const void* qkv_data, void* out_data,
                       float* log_sum_exp) const override {
    const float* qkv = static_cast<const float*>(qkv_data);
    float* out = static_cast<float*>(out_data);
    return ForEachHead(context, [&](const Head& head, float* scores, float*) {
      return HeadForward(head, qkv, out, log_sum_exp, scores);
    });
  }

  absl::Status Backward(const OpContext& context, const void* qkv_data, const void* out_data, const float* log_sum_exp,
                        const void* dout_data, void* dqkv_data) const override {
    const float* qkv = static_cast<const float*>(qkv_data);
    const float* out = static_cast<const float*>(out_data);
    const float* dout = static_cast<const float*>(dout_data);
    float* dqkv = static_cast<float*>(dqkv_data);
    return ForEachHead(context, [&](const Head& head, float* scores, float* dp) {
      return HeadBackward(head, qkv, out, log_sum_exp, dout, dqkv, scores, dp);
    });
  }

 private:
  // Where one (sample, head) begins in (B, T, H, 3, D), (B, T, H, D) and (B, H, T).
  struct Head {
    int64_t qkv;
    int64_t out;
    int64_t row;
  };

  // Distance of a head's successive positions.
  int64_t QkvStride() const { return 3 * OutStride(); }
  int64_t OutStride() const { return shape_.heads * shape_.head_dim; }

  template <typename Body>
  absl::Status ForEachHead(const OpContext& context, const Body& body) const {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    // One thread for a head, in oneDNN too: inside a parallel region it asks and gets one.
    SetLibraryThreads(threads_);
    float* scratch = reinterpret_cast<float*>(context.workspace);
    std::vector<absl::Status> statuses(static_cast<size_t>(threads_));
    ParallelStrided(threads_, shape_.batch * shape_.heads, [&](int chunk, int64_t index) {
      const int64_t sample = index / shape_.heads;
      const int64_t head = index % shape_.heads;
      const Head at = {sample * shape_.seq_length * QkvStride() + head * 3 * shape_.head_dim,
                       sample * shape_.seq_length * OutStride() + head * shape_.head_dim, index * shape_.seq_length};
      float* scores = scratch + 2 * chunk * block_elements_;
      const absl::Status status = body(at, scores, scores + block_elements_);
      if (!status.ok()) statuses[static_cast<size_t>(chunk)] = status;
    });
    for (const absl::Status& status : statuses) PENSTOCK_RETURN_IF_ERROR(status);
    return absl::OkStatus();
  }

  absl::Status HeadForward(const Head& at, const float* qkv, float* out, float* log_sum_exp, float* scores) const {
    const int64_t dim = shape_.head_dim;
    const float* q = qkv + at.qkv;
    const float* k = q + dim;
    const float* v = k + dim;
    for (int64_t begin = 0; begin < shape_.seq_length; begin += kQueryBlock) {
      const int64_t end = std::min(begin + kQueryBlock, shape_.seq_length);
      PENSTOCK_RETURN_IF_ERROR(StridedMatmul(false, true, end - begin, end, dim, scale_, q + begin * QkvStride(),
                                             QkvStride(), k, QkvStride(), 0.0F, scores, end));
      for (int64_t row = begin; row < end; ++row) {
        log_sum_exp[at.row + row] = SoftmaxRow(scores + (row - begin) * end, row + 1, end);
      }
      PENSTOCK_RETURN_IF_ERROR(StridedMatmul(false, false, end - begin, dim, end, 1.0F, scores, end, v, QkvStride(),
                                             0.0F, out + at.out + begin * OutStride(), OutStride()));
    }
    return absl::OkStatus();
  }

  absl::Status HeadBackward(const Head& at, const float* qkv, const float* out, const float* log_sum_exp,
                            const float* dout, float* dqkv, float* scores, float* dp) const {
    const int64_t dim = shape_.head_dim;
    const float* q = qkv + at.qkv;
    const float* k = q + dim;
    const float* v = k + dim;
    float* dq = dqkv + at.qkv;
    float* dk = dq + dim;
    float* dv = dk + dim;
    for (int64_t row = 0; row < shape_.seq_length; ++row) std::fill_n(dk + row * QkvStride(), 2 * dim, 0.0F);
    for (int64_t begin = 0; begin < shape_.seq_length; begin += kQueryBlock) {
      const int64_t end = std::min(begin + kQueryBlock, shape_.seq_length);
      const int64_t rows = end - begin;
      const float* q_rows = q + begin * QkvStride();
      const float* dout_rows = dout + at.out + begin * OutStride();
      PENSTOCK_RETURN_IF_ERROR(
          StridedMatmul(false, true, rows, end, dim, scale_, q_rows, QkvStride(), k, QkvStride(), 0.0F, scores, end));
      PENSTOCK_RETURN_IF_ERROR(
          StridedMatmul(false, true, rows, end, dim, 1.0F, dout_rows, OutStride(), v, QkvStride(), 0.0F, dp, end));
      for (int64_t row = begin; row < end; ++row) {
        const float dot = Dot(dout_rows + (row - begin) * OutStride(), out + at.out + row * OutStride(), dim);
        BackwardRow(scores + (row - begin) * end, dp + (row - begin) * end, log_sum_exp[at.row + row], dot, scale_,
                    row + 1, end);
      }
      PENSTOCK_RETURN_IF_ERROR(
          StridedMatmul(true, false, end, dim, rows, 1.0F, scores, end, dout_rows, OutStride(), 1.0F, dv, QkvStride()));
      PENSTOCK_RETURN_IF_ERROR(StridedMatmul(false, false, rows, dim, end, 1.0F, dp, end, k, QkvStride(), 0.0F,
                                             dq + begin * QkvStride(), QkvStride()));
      PENSTOCK_RETURN_IF_ERROR(
          StridedMatmul(true, false, end, dim, rows, 1.0F, dp, end, q_rows, QkvStride(), 1.0F, dk, QkvStride()));
    }
    return absl::OkStatus();
  }

  const AttentionShape shape_;
  const int threads_;
  const int64_t block_elements_;
  const float scale_;
};

}  // namespace

std::unique_ptr<CausalAttention> CreateCausalAttention(const AttentionShape& shape, int threads) {
  return std::make_unique<CpuCausalAttention>(shape, threads);
}

}  // namespace penstock::cpu
