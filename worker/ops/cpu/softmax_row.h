// The softmax of one row of logits, on one thread, with the same bits wherever it is used.
#ifndef PENSTOCK_WORKER_OPS_CPU_SOFTMAX_ROW_H_
#define PENSTOCK_WORKER_OPS_CPU_SOFTMAX_ROW_H_

#include <cstdint>
#include <limits>

#include "worker/ops/cpu/kernels.h"

namespace penstock::cpu {

// What the softmax of a row comes down to.
struct RowSoftmax {
  float maximum = -std::numeric_limits<float>::infinity();
  float sum = 0;  // of e^(logit - maximum)
};

inline RowSoftmax ReduceRow(const float* logits, int64_t width) {
  RowSoftmax row;
  KernelsFor<float>().softmax_statistics(logits, width, &row.maximum, &row.sum);
  return row;
}

// logits = softmax(logits), `row` being of the whole row, of which this may be a part.
inline void ReplaceBySoftmax(float* logits, int64_t width, const RowSoftmax& row) {
  KernelsFor<float>().softmax_gradient(logits, width, row.maximum, 1.0F / row.sum, logits);
}

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_SOFTMAX_ROW_H_
