// Dropout of one tensor of the residual stream's width: the embedding, or what half a layer adds to the stream.
// (GPT-2's embd_pdrop and resid_pdrop; attention's probabilities aren't dropped.)
#ifndef PENSTOCK_WORKER_MODEL_BRANCH_DROPOUT_H_
#define PENSTOCK_WORKER_MODEL_BRANCH_DROPOUT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/ops/dropout.h"

namespace penstock {

// The uses of dropout in a job: its numbers depend on these.
inline constexpr uint32_t kEmbeddingSite = 0;
inline uint32_t AttentionSite(int layer) { return 1 + 2 * static_cast<uint32_t>(layer); }
inline uint32_t MlpSite(int layer) { return 2 + 2 * static_cast<uint32_t>(layer); }

// Of a micro-batch. Thread-safe: const.
struct BranchDropout {
  const Dropout* dropout = nullptr;  // none: nothing is dropped
  uint64_t first_sample = 0;         // of the micro-batch, counted over the job

  bool on() const { return dropout != nullptr; }
  absl::Status Forward(const OpContext& context, uint32_t site, void* x) const {
    return on() ? dropout->Apply(context, first_sample, site, x, x) : absl::OkStatus();
  }
  // The gradient towards what went into it: in `room`, or `gradient` itself where nothing is dropped. `room` may be
  // `gradient`.
  absl::StatusOr<const void*> Backward(const OpContext& context, uint32_t site, const void* gradient,
                                       void* room) const {
    if (!on()) return gradient;
    if (absl::Status status = dropout->Apply(context, first_sample, site, gradient, room); !status.ok()) return status;
    return room;
  }
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_BRANCH_DROPOUT_H_
