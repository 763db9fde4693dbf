// GELU in its tanh form (Hendrycks, Gimpel 2016), GPT-2's `gelu_new`:
// y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))).
#ifndef PENSTOCK_WORKER_OPS_GELU_H_
#define PENSTOCK_WORKER_OPS_GELU_H_

#include "absl/status/status.h"
#include "worker/ops/context.h"

namespace penstock {

class Gelu : public Operation {
 public:
  // x, y (elements).
  virtual absl::Status Forward(const OpContext& context, const void* x, void* y) const = 0;
  // x, dy (elements); writes dx (elements), which may be dy itself.
  virtual absl::Status Backward(const OpContext& context, const void* x, const void* dy, void* dx) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_GELU_H_
