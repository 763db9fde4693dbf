// What the runtime knows about an error beside its code: whether trying again can help, and whether the parameter
// service has fenced the epoch. Carried as payloads of the Status. Thread-safe: free functions.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_ERROR_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_ERROR_H_

#include "absl/status/status.h"

namespace penstock {

// The same failure would come back in every new epoch: bad data, a loss that isn't finite, memory that isn't there.
absl::Status MarkPermanent(absl::Status status);
bool IsPermanent(const absl::Status& status);

// An answer of the parameter service: FAILED_PRECONDITION means that the epoch is over for this rank.
absl::Status FromService(absl::Status status);
bool IsFenced(const absl::Status& status);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_ERROR_H_
