// The output head with its loss: logits = x Wᵀ, and the softmax cross-entropy of them, in one operation, which works
// through as much of the vocabulary at a time as suits the device. Logits live only between Forward and Backward; on
// the CPU they are fp32, on a GPU of the operation's type, as PyTorch's autocast has them.
//
// The vocabulary may be split over a tensor group (Shoeybi et al. 2019): each rank reduces its own columns to three
// numbers a row, the group gathers those, and each rank computes the same loss and the gradients of its own part.
//
//   head->Forward(context, x, weight, targets, logits, all + rank * rows, HeadPass::kTraining);
//   ... gather `all` over the group ...
//   head->Loss(context, all, targets, total, mode);
//   head->Backward(context, x, weight, all, targets, logits, dx, dweight, mode);    // in training
#ifndef PENSTOCK_WORKER_OPS_LINEAR_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_LINEAR_CROSS_ENTROPY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/data_type.h"
#include "worker/ops/context.h"
#include "worker/ops/linear.h"
#include "worker/ops/loss.h"

namespace penstock {

struct LinearCrossEntropyShape {
  int64_t rows = 0;
  int64_t in = 0;
  // Of the whole vocabulary.
  int64_t vocab_size = 0;
  // The columns that are here.
  int64_t vocab_begin = 0;
  int64_t vocab_end = 0;
  // Ranks that hold the whole.
  int ranks = 1;
  DataType type = DataType::kFloat32;

  int64_t columns() const { return vocab_end - vocab_begin; }
};

// What Forward is for: of a pass with kTraining Backward follows, before which the logits may be their gradient
// already.
enum class HeadPass { kTraining, kEvaluation };

class LinearCrossEntropy : public Operation {
 public:
  // Memory for the logits.
  virtual int64_t logits_bytes() const = 0;
  // x (rows, in), weight [columns, in], targets (rows), which were checked (worker/ops/token_checks.h); writes logits,
  // in an order of its own, and reductions (rows).
  virtual absl::Status Forward(const OpContext& context, const void* x, const void* weight, const int32_t* targets,
                               void* logits, RowReduction* reductions, HeadPass pass) const = 0;
  // all (ranks, rows), combined in rank order: the same bits on every rank. Adds to *total, which is the device's
  // memory, or with kWrite writes it.
  virtual absl::Status Loss(const OpContext& context, const RowReduction* all, const int32_t* targets, LossSum* total,
                            GradientMode mode) const = 0;
  // Of the loss's sum: writes dx (rows, in), this rank's part of it, and adds to or writes dweight [columns, in]. May
  // use up the logits.
  virtual absl::Status Backward(const OpContext& context, const void* x, const void* weight, const RowReduction* all,
                                const int32_t* targets, void* logits, void* dx, float* dweight,
                                GradientMode mode) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_LINEAR_CROSS_ENTROPY_H_
