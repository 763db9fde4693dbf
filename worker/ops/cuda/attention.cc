#include "worker/ops/cuda/kernels/attention.h"

#include "absl/strings/str_cat.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

class CudaAttention : public CausalAttention {
 public:
  explicit CudaAttention(const AttentionShape& shape)
      : sizes_{.batch = shape.batch, .seq_length = shape.seq_length, .heads = shape.heads, .head_dim = shape.head_dim},
        type_(shape.type) {}

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
  const auto refuse = [](absl::string_view what, int64_t is, int64_t maximum) {
    return absl::UnimplementedError(
        absl::StrCat("attention: ", what, " is ", is, "; on CUDA it may be up to ", maximum));
  };
  if (shape.head_dim > kHeadDimMax) return refuse("head_dim", shape.head_dim, kHeadDimMax);
  if (shape.seq_length > kSeqLengthMax) return refuse("seq_length", shape.seq_length, kSeqLengthMax);
  if (shape.heads > kStrideMax / 3 / shape.head_dim) {
    return refuse("heads", shape.heads, kStrideMax / 3 / shape.head_dim);
  }
  return std::unique_ptr<CausalAttention>(std::make_unique<CudaAttention>(shape));
}

}  // namespace penstock::cuda
