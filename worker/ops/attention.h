// Causal multi-head attention on the fused projection: softmax(Q Kᵀ / sqrt(dim)) V, position t seeing 0..t.
//
// The T×T probabilities are never stored: the forward pass keeps each row's log-sum-exp, and the backward pass computes
// them again from it (Dao et al. 2022, "FlashAttention").
#ifndef PENSTOCK_WORKER_OPS_ATTENTION_H_
#define PENSTOCK_WORKER_OPS_ATTENTION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/data_type.h"
#include "worker/ops/context.h"

namespace penstock {

struct AttentionShape {
  int64_t batch = 0;
  int64_t seq_length = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  DataType type = DataType::kFloat32;
};

class CausalAttention : public Operation {
 public:
  // qkv (batch, seq, heads, 3, dim); writes out (batch, seq, heads, dim) and log_sum_exp (batch, heads, seq).
  virtual absl::Status Forward(const OpContext& context, const void* qkv, void* out, float* log_sum_exp) const = 0;
  // dout (batch, seq, heads, dim); writes dqkv (batch, seq, heads, 3, dim).
  virtual absl::Status Backward(const OpContext& context, const void* qkv, const void* out, const float* log_sum_exp,
                                const void* dout, void* dqkv) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_ATTENTION_H_
