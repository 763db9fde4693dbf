// What to change in a job whose ranks don't fit into their devices. Pure.
#ifndef PENSTOCK_CORE_PLAN_FITTING_CHANGE_H_
#define PENSTOCK_CORE_PLAN_FITTING_CHANGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/plan/memory_model.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Of each rank, as the memory model counts. INVALID_ARGUMENT for a job that can't be.
absl::StatusOr<std::vector<RankMemory>> MemoryOfJob(const v1::JobSpec& spec);

// The smallest change of a sound job with which its largest rank takes at most `available_bytes`, or nothing where none
// of those tried is enough: the 1f1b schedule, the optimizer in the service, gradients cut over the data ranks, smaller
// micro-batches, more stages. "training.micro_batch_size: 4 would fit (6.3 GiB)". `beyond_model`: what a rank takes on
// top of the memory model.
std::optional<std::string> SmallestFittingChange(const v1::JobSpec& spec, int64_t available_bytes,
                                                 int64_t beyond_model);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_FITTING_CHANGE_H_
