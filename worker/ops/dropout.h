// Dropout: y = x / (1 - p) where an element stays, 0 elsewhere. Which ones stay is core/random/dropout_rule.h's, so
// nothing is kept for the backward pass: the gradient is the same call on dy.
#ifndef PENSTOCK_WORKER_OPS_DROPOUT_H_
#define PENSTOCK_WORKER_OPS_DROPOUT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/data_type.h"
#include "core/random/dropout_rule.h"
#include "worker/ops/context.h"

namespace penstock {

struct DropoutShape {
  int64_t samples = 0;
  int64_t elements = 0;  // of a sample
  DropoutRule rule = {};
  DataType type = DataType::kFloat32;
};

class Dropout : public Operation {
 public:
  // x, y (samples, elements); y may be x. The samples are the job's [first_sample, first_sample + samples).
  virtual absl::Status Apply(const OpContext& context, uint64_t first_sample, uint32_t site, const void* x,
                             void* y) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_DROPOUT_H_
