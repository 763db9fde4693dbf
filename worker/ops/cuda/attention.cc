#include "worker/ops/cuda/kernels/attention.h"

#include "absl/strings/str_cat.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

class CudaAttention : public CausalAttention {
 public:
  explicit CudaAttention(const AttentionShape& shape)
      : sizes_{shape.batch, shape.seq_length, shape.heads, shape.head_dim}, type_(shape.type) {}

  int64_t workspace_bytes() const override {
    return sizes_.batch * sizes_.heads * sizes_.seq_length * static_cast<int64_t>(sizeof(float));
  }

  absl::Status Forward(const OpContext& context, const void* qkv, void* out, float* log_sum_exp) const override {
    return ByType(type_, [&](auto type) {
      return ToStatus(AttentionForward(sizes_, As(qkv, type), As(out, type), log_sum_exp, StreamOf(context)),
                      "attention");
    });
  }

  absl::Status Backward(const OpContext& context, const void* qkv, const void* out, const float* log_sum_exp,
                        const void* dout, void* dqkv) const override {
    return ByType(type_, [&](auto type) {
      return ToStatus(AttentionBackward(sizes_, As(qkv, type), As(out, type), log_sum_exp, As(dout, type),
                                        reinterpret_cast<float*>(context.workspace), As(dqkv, type), StreamOf(context)),
                      "attention's gradient");
    });
  }

 private:
  const AttentionSizes sizes_;
  const DataType type_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CausalAttention>> CreateCausalAttention(const AttentionShape& shape) {
  if (shape.head_dim > kHeadDimMax) {
    return absl::UnimplementedError(
        absl::StrCat("attention: head_dim is ", shape.head_dim, "; on CUDA it may be up to ", kHeadDimMax));
  }
  return std::unique_ptr<CausalAttention>(std::make_unique<CudaAttention>(shape));
}

}  // namespace penstock::cuda
