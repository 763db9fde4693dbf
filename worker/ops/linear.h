// y = x W + b, its gradients apart, so that a schedule may delay the weights' gradient.
#ifndef PENSTOCK_WORKER_OPS_LINEAR_H_
#define PENSTOCK_WORKER_OPS_LINEAR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "worker/ops/context.h"

namespace penstock {

// The canonical layout has the split axis outermost: column-parallel weights are [out, in], row-parallel ones [in,
// out].
enum class WeightLayout { kOutIn, kInOut };

struct LinearShape {
  int64_t rows = 0;
  int64_t in = 0;
  int64_t out = 0;
  WeightLayout layout = WeightLayout::kOutIn;
  bool has_bias = false;
};

class Linear : public Operation {
 public:
  // x (rows, in), weight [out, in] or [in, out], bias (out) or null without one; writes y (rows, out).
  virtual absl::Status Forward(const OpContext& context, const float* x, const float* weight, const float* bias,
                               float* y) const = 0;
  // dy (rows, out); writes dx (rows, in).
  virtual absl::Status BackwardInput(const OpContext& context, const float* dy, const float* weight,
                                     float* dx) const = 0;
  // Adds to dweight (the weight's layout) and dbias (out; null without one).
  virtual absl::Status BackwardWeight(const OpContext& context, const float* x, const float* dy, float* dweight,
                                      float* dbias) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_LINEAR_H_
