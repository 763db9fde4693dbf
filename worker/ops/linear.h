// y = x W + b, its gradients apart, so that a schedule may delay the weights' gradient. GELU on either side of it can
// be a part of its products, which saves a way through memory each.
#ifndef PENSTOCK_WORKER_OPS_LINEAR_H_
#define PENSTOCK_WORKER_OPS_LINEAR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/data_type.h"
#include "worker/ops/context.h"

namespace penstock {

// The canonical layout has the split axis outermost: column-parallel weights are [out, in], row-parallel ones [in,
// out].
enum class WeightLayout { kOutIn, kInOut };

// What becomes of a parameter's gradient that stands there already: a step's first micro-batch may write, which saves
// clearing and reading the buffer and gives the bits of adding to zeros.
enum class GradientMode { kAdd, kWrite };

// Whether GELU (worker/ops/gelu.h, the tanh form) comes behind the operation or before it, and is computed with its
// products where the device can.
enum class WithGelu { kNot, kBehind, kBefore };

struct LinearShape {
  int64_t rows = 0;
  int64_t in = 0;
  int64_t out = 0;
  WeightLayout layout = WeightLayout::kOutIn;
  bool has_bias = false;
  DataType type = DataType::kFloat32;
  WithGelu gelu = WithGelu::kNot;
};

class Linear : public Operation {
 public:
  // x (rows, in), weight [out, in] or [in, out], bias (out) or null without one; writes y (rows, out).
  virtual absl::Status Forward(const OpContext& context, const void* x, const void* weight, const void* bias,
                               void* y) const = 0;
  // y = x W + b + addend (rows, out), which is another tensor.
  virtual absl::Status ForwardAdd(const OpContext& context, const void* x, const void* weight, const void* bias,
                                  const void* addend, void* y) const = 0;
  // Whether that is one product, rounded once; where it isn't, adding later may cost less.
  virtual bool adds() const = 0;
  // With WithGelu::kBehind: writes inner (rows, out) = x W + b, and y (rows, out) = gelu(inner).
  virtual absl::Status ForwardGelu(const OpContext& context, const void* x, const void* weight, const void* bias,
                                   void* inner, void* y) const = 0;
  // With WithGelu::kBefore, where x was gelu(inner): inner (rows, in), dy (rows, out); writes dinner (rows, in).
  virtual absl::Status BackwardInputGelu(const OpContext& context, const void* dy, const void* weight,
                                         const void* inner, void* dinner) const = 0;
  // dy (rows, out); writes dx (rows, in).
  virtual absl::Status BackwardInput(const OpContext& context, const void* dy, const void* weight, void* dx) const = 0;
  // Adds to or writes dweight (the weight's layout) and dbias (out; null without one), as `mode` says.
  virtual absl::Status BackwardWeight(const OpContext& context, const void* x, const void* dy, float* dweight,
                                      float* dbias, GradientMode mode = GradientMode::kAdd) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_LINEAR_H_
