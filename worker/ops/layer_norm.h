// Layer normalisation over the last axis (Ba, Kiros, Hinton 2016): y = (x - mean) / sqrt(variance + epsilon) * gamma +
// beta.
#ifndef PENSTOCK_WORKER_OPS_LAYER_NORM_H_
#define PENSTOCK_WORKER_OPS_LAYER_NORM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/data_type.h"
#include "worker/ops/context.h"
#include "worker/ops/linear.h"

namespace penstock {

struct LayerNormShape {
  int64_t rows = 0;
  int64_t width = 0;
  float epsilon = 1e-5F;
  DataType type = DataType::kFloat32;
};

class LayerNorm : public Operation {
 public:
  // x (rows, width), gamma, beta (width); writes y (rows, width), mean and reciprocal_std (rows) for the backward pass.
  virtual absl::Status Forward(const OpContext& context, const void* x, const void* gamma, const void* beta, void* y,
                               float* mean, float* reciprocal_std) const = 0;
  // The same of sum = a + b (rows, width), which is written too: a residual branch joins and is normalised in one pass.
  virtual absl::Status ForwardOfSum(const OpContext& context, const void* a, const void* b, void* sum,
                                    const void* gamma, const void* beta, void* y, float* mean,
                                    float* reciprocal_std) const = 0;
  // dy (rows, width). Adds to dx (rows, width), where the residual branch's gradient stands already, and adds to or
  // writes dgamma and dbeta (width), as `mode` says.
  virtual absl::Status Backward(const OpContext& context, const void* x, const void* gamma, const float* mean,
                                const float* reciprocal_std, const void* dy, void* dx, float* dgamma, float* dbeta,
                                GradientMode mode = GradientMode::kAdd) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_LAYER_NORM_H_
