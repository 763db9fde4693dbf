#include "worker/ops/cuda/row_losses.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/host_wait.h"
#include "worker/ops/cuda/operations.h"
#include "worker/ops/cuda/tokens.h"

namespace penstock::cuda {

static_assert(sizeof(RowPart) == sizeof(RowReduction) && offsetof(RowPart, sum) == offsetof(RowReduction, sum) &&
              offsetof(RowPart, target_logit) == offsetof(RowReduction, target_logit));

static_assert(sizeof(CrossEntropyTotal) == sizeof(LossSum) &&
              offsetof(CrossEntropyTotal, target_count) == offsetof(LossSum, target_count));

int64_t RowLosses::bytes(int64_t rows) { return 2 * kBadTokenBytes + rows * static_cast<int64_t>(sizeof(double)); }

CrossEntropyTotal* RowLosses::total() const { return reinterpret_cast<CrossEntropyTotal*>(scratch_ + kBadTokenBytes); }

double* RowLosses::losses() const { return reinterpret_cast<double*>(scratch_ + 2 * kBadTokenBytes); }

absl::Status RowLosses::CheckTargets(const int32_t* targets, int64_t rows, int64_t vocab_size) const {
  static_assert(kIgnoredTarget == -1);  // the least that the check lets pass
  PENSTOCK_ASSIGN_OR_RETURN(const std::optional<BadToken> bad,
                            FindBadToken(context_, targets, rows, kIgnoredTarget, vocab_size, scratch_));
  if (!bad.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("target ", bad->token, " of row ", bad->index,
                                                 " is outside the vocabulary: expected 0 to ", vocab_size - 1, ", or ",
                                                 kIgnoredTarget, " for none"));
}

absl::StatusOr<LossSum> RowLosses::Read() const {
  const cudaStream_t stream = StreamOf(context_);
  CrossEntropyTotal sum{};
  PENSTOCK_RETURN_IF_ERROR(
      ToStatus(cudaMemcpyAsync(&sum, total(), sizeof(sum), cudaMemcpyDefault, stream), "the loss"));
  PENSTOCK_RETURN_IF_ERROR(WaitForStream(stream, "the loss"));
  return LossSum{sum.loss, sum.target_count};
}

RowPart* Parts(RowReduction* rows) { return reinterpret_cast<RowPart*>(rows); }
const RowPart* Parts(const RowReduction* rows) { return reinterpret_cast<const RowPart*>(rows); }

}  // namespace penstock::cuda
