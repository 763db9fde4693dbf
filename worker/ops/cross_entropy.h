// Softmax cross-entropy: loss = sum over rows of (log-sum-exp(logits) - logits[target]), a sum, never a mean: the step
// divides once, by its global target count.
#ifndef PENSTOCK_WORKER_OPS_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_CROSS_ENTROPY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/ops/context.h"

namespace penstock {

// A row with this target counts for nothing: no loss, no gradient.
inline constexpr int32_t kIgnoredTarget = -1;

struct CrossEntropyShape {
  int64_t rows = 0;
  int64_t vocab_size = 0;
};

struct LossSum {
  double loss = 0;           // summed over the targets, row after row
  int64_t target_count = 0;  // rows that weren't ignored
};

class CrossEntropy : public Operation {
 public:
  // logits (rows, vocab), targets (rows). INVALID_ARGUMENT for a target outside the vocabulary.
  virtual absl::StatusOr<LossSum> Forward(const OpContext& context, const float* logits,
                                          const int32_t* targets) const = 0;
  // The same, and replaces the logits by the gradient of the sum: softmax(logits) - onehot(target).
  virtual absl::StatusOr<LossSum> ForwardBackward(const OpContext& context, float* logits,
                                                  const int32_t* targets) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CROSS_ENTROPY_H_
