// y = a + b. Its gradient is the identity towards both sides, so there is no backward pass.
#ifndef PENSTOCK_WORKER_OPS_RESIDUAL_H_
#define PENSTOCK_WORKER_OPS_RESIDUAL_H_

#include "absl/status/status.h"
#include "worker/ops/context.h"

namespace penstock {

class ResidualAdd : public Operation {
 public:
  // a, b, y (elements); y may be a or b itself.
  virtual absl::Status Forward(const OpContext& context, const void* a, const void* b, void* y) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_RESIDUAL_H_
