// Arguments of collectives, checked and cut alike on every backend. Pure.
#ifndef PENSTOCK_WORKER_COMM_GROUP_PARTS_H_
#define PENSTOCK_WORKER_COMM_GROUP_PARTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"

namespace penstock {

// The rank's index in `group`; INVALID_ARGUMENT where it isn't a member.
absl::StatusOr<int> IndexInGroup(absl::Span<const int> group, int rank);

// INVALID_ARGUMENT unless there is a list of parts for each member, all within a buffer of `size` elements.
absl::Status CheckParts(absl::Span<const int> group, int64_t size, absl::Span<const std::vector<Part>> parts);

// Cuts parts into chunks of at most chunk_elements.
std::vector<Part> CutParts(const std::vector<Part>& parts, int64_t chunk_elements);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_GROUP_PARTS_H_
