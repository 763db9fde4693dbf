// Softmax cross-entropy over logits that a tensor group holds in columns (vocabulary-parallel, Shoeybi et al. 2019):
// each rank reduces its columns to three numbers a row, the group gathers those, and each rank computes the same loss
// and the gradient of its own columns. No rank ever sees another one's logits.
//
//   loss->Reduce(context, logits, targets, all + rank * rows);
//   ... gather `all` over the group ...
//   LossSum sum = loss->Finish(context, all, targets, logits);
//
// With one rank the bits are CrossEntropy's.
#ifndef PENSTOCK_WORKER_OPS_SPLIT_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_SPLIT_CROSS_ENTROPY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/ops/context.h"
#include "worker/ops/cross_entropy.h"

namespace penstock {

struct SplitCrossEntropyShape {
  int64_t rows = 0;
  // Of the whole vocabulary.
  int64_t vocab_size = 0;
  // The columns that are here.
  int64_t vocab_begin = 0;
  int64_t vocab_end = 0;
  // Ranks that hold the rest.
  int ranks = 1;
};

// One rank's columns of a row.
struct RowReduction {
  double maximum = 0;
  double sum = 0;           // of e^(logit - maximum)
  double target_logit = 0;  // 0 where the target is another rank's column, or none
};

class SplitCrossEntropy : public Operation {
 public:
  // logits (rows, vocab_end - vocab_begin), targets (rows); writes reductions (rows). INVALID_ARGUMENT for a target
  // outside the vocabulary.
  virtual absl::Status Reduce(const OpContext& context, const float* logits, const int32_t* targets,
                              RowReduction* reductions) const = 0;
  // all (ranks, rows), combined in rank order. Replaces the logits by the gradient of the sum, unless they are null.
  // The loss has the same bits on every rank.
  virtual absl::StatusOr<LossSum> Finish(const OpContext& context, const RowReduction* all, const int32_t* targets,
                                         float* logits) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_SPLIT_CROSS_ENTROPY_H_
