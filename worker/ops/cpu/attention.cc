#include "worker/ops/cpu/attention.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

template <typename T>
class CpuCausalAttention : public CausalAttention {
 public:
  CpuCausalAttention(const AttentionShape& shape, int threads)
      : shape_(shape),
        head_({.seq_length = shape.seq_length,
               .dim = shape.head_dim,
               .scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim))}),
        threads_(static_cast<int>(std::min<int64_t>(threads, shape.batch * shape.heads))) {}

  int64_t workspace_bytes() const override {
    return threads_ * head_.scratch_elements() * static_cast<int64_t>(sizeof(float));
  }

  absl::Status Forward(const OpContext& context, const void* qkv, void* out, float* log_sum_exp) const override {
    ForEachHead(context, [&](int64_t sample, int64_t head, int64_t index, float* scratch) {
      kernels_.attention_forward(head_, Part(qkv, sample, head, 0), Part(qkv, sample, head, 1),
                                 Part(qkv, sample, head, 2), Out(out, sample, head),
                                 log_sum_exp + index * shape_.seq_length, scratch);
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext& context, const void* qkv, const void* out, const float* log_sum_exp,
                        const void* dout, void* dqkv) const override {
    ForEachHead(context, [&](int64_t sample, int64_t head, int64_t index, float* scratch) {
      kernels_.attention_backward(head_, Part(qkv, sample, head, 0), Part(qkv, sample, head, 1),
                                  Part(qkv, sample, head, 2), Out(out, sample, head), Out(dout, sample, head),
                                  log_sum_exp + index * shape_.seq_length, Part(dqkv, sample, head, 0),
                                  Part(dqkv, sample, head, 1), Part(dqkv, sample, head, 2), scratch);
    });
    return absl::OkStatus();
  }

 private:
  // Distance of a head's successive positions.
  int64_t OutStride() const { return shape_.heads * shape_.head_dim; }
  int64_t PartOffset(int64_t sample, int64_t head, int64_t part) const {
    return sample * shape_.seq_length * 3 * OutStride() + (head * 3 + part) * shape_.head_dim;
  }
  int64_t OutOffset(int64_t sample, int64_t head) const {
    return sample * shape_.seq_length * OutStride() + head * shape_.head_dim;
  }

  // A head's queries, keys or values in (B, T, H, 3, D).
  HeadRows<const T> Part(const void* qkv, int64_t sample, int64_t head, int64_t part) const {
    return {static_cast<const T*>(qkv) + PartOffset(sample, head, part), 3 * OutStride()};
  }
  HeadRows<T> Part(void* qkv, int64_t sample, int64_t head, int64_t part) const {
    return {static_cast<T*>(qkv) + PartOffset(sample, head, part), 3 * OutStride()};
  }
  // A head's rows in (B, T, H, D).
  HeadRows<const T> Out(const void* out, int64_t sample, int64_t head) const {
    return {static_cast<const T*>(out) + OutOffset(sample, head), OutStride()};
  }
  HeadRows<T> Out(void* out, int64_t sample, int64_t head) const {
    return {static_cast<T*>(out) + OutOffset(sample, head), OutStride()};
  }

  template <typename Body>
  void ForEachHead(const OpContext& context, const Body& body) const {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    float* const scratch = reinterpret_cast<float*>(context.workspace);
    ParallelStrided(threads_, shape_.batch * shape_.heads, [&](int chunk, int64_t index) {
      body(index / shape_.heads, index % shape_.heads, index, scratch + chunk * head_.scratch_elements());
    });
  }

  const Kernels<T>& kernels_ = KernelsFor<T>();
  const AttentionShape shape_;
  const HeadShape head_;
  const int threads_;
};

}  // namespace

std::unique_ptr<CausalAttention> CreateCausalAttention(const AttentionShape& shape, int threads) {
  if (shape.type == DataType::kBfloat16) return std::make_unique<CpuCausalAttention<Bfloat16>>(shape, threads);
  return std::make_unique<CpuCausalAttention<float>>(shape, threads);
}

}  // namespace penstock::cpu
