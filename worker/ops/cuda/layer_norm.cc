#include "worker/ops/cuda/kernels/layer_norm.h"

#include "worker/cuda/status.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

class CudaLayerNorm : public LayerNorm {
 public:
  explicit CudaLayerNorm(const LayerNormShape& shape) : shape_(shape) {}

  int64_t workspace_bytes() const override { return LayerNormWorkspaceBytes(shape_.rows, shape_.width); }

  absl::Status Forward(const OpContext& context, const void* x, const void* gamma, const void* beta, void* y,
                       float* mean, float* reciprocal_std) const override {
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(LayerNormForward(As(x, type), As(gamma, type), As(beta, type), shape_.rows, shape_.width,
                                       shape_.epsilon, As(y, type), mean, reciprocal_std, StreamOf(context)),
                      "layer norm");
    });
  }

  absl::Status ForwardOfSum(const OpContext& context, const void* a, const void* b, void* sum, const void* gamma,
                            const void* beta, void* y, float* mean, float* reciprocal_std) const override {
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(
          LayerNormForwardOfSum(As(a, type), As(b, type), As(sum, type), As(gamma, type), As(beta, type), shape_.rows,
                                shape_.width, shape_.epsilon, As(y, type), mean, reciprocal_std, StreamOf(context)),
          "layer norm of a sum");
    });
  }

  absl::Status Backward(const OpContext& context, const void* x, const void* gamma, const float* mean,
                        const float* reciprocal_std, const void* dy, void* dx, float* dgamma, float* dbeta,
                        GradientMode mode) const override {
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(LayerNormBackward(As(x, type), As(gamma, type), mean, reciprocal_std, As(dy, type), shape_.rows,
                                        shape_.width, reinterpret_cast<float*>(context.workspace), As(dx, type), dgamma,
                                        dbeta, mode == GradientMode::kAdd, StreamOf(context)),
                      "layer norm's gradient");
    });
  }

 private:
  const LayerNormShape shape_;
};

}  // namespace

std::unique_ptr<LayerNorm> CreateLayerNorm(const LayerNormShape& shape) {
  return std::make_unique<CudaLayerNorm>(shape);
}

}  // namespace penstock::cuda
