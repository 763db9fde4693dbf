// What the output head says of a loss: softmax cross-entropy, summed and never a mean, as the step divides once by its
// global target count.
#ifndef PENSTOCK_WORKER_OPS_LOSS_H_
#define PENSTOCK_WORKER_OPS_LOSS_H_

#include <cstdint>

namespace penstock {

// A row with this target counts for nothing: no loss, no gradient.
inline constexpr int32_t kIgnoredTarget = -1;

struct LossSum {
  double loss = 0;           // summed over the targets, row after row
  int64_t target_count = 0;  // rows that weren't ignored
};

// One rank's columns of a row of logits.
struct RowReduction {
  double maximum = 0;
  double sum = 0;           // of e^(logit - maximum)
  double target_logit = 0;  // 0 where the target is another rank's column, or none
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_LOSS_H_
