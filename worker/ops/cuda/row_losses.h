// What the operations with a loss share: scratch memory, the check of targets, and the loss on its way to the host.
// Private to ops/cuda.
#ifndef PENSTOCK_WORKER_OPS_CUDA_ROW_LOSSES_H_
#define PENSTOCK_WORKER_OPS_CUDA_ROW_LOSSES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/ops/cross_entropy.h"
#include "worker/ops/cuda/kernels/cross_entropy.h"
#include "worker/ops/split_cross_entropy.h"

namespace penstock::cuda {

// In a part of an operation's workspace of bytes(rows): what a check of the targets needs, the total, and a loss for
// each row.
class RowLosses {
 public:
  static int64_t bytes(int64_t rows);

  RowLosses(const OpContext& context, std::byte* scratch) : context_(context), scratch_(scratch) {}

  // INVALID_ARGUMENT names the first target outside the vocabulary. Waits for the stream.
  absl::Status CheckTargets(const int32_t* targets, int64_t rows, int64_t vocab_size) const;
  CrossEntropyTotal* total() const;
  double* losses() const;
  // Waits for the stream: the host needs the loss.
  absl::StatusOr<LossSum> Read() const;

 private:
  const OpContext& context_;
  std::byte* const scratch_;
};

// A RowReduction is the kernels' RowPart.
RowPart* Parts(RowReduction* rows);
const RowPart* Parts(const RowReduction* rows);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_ROW_LOSSES_H_
