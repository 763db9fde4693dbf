// Builds pipeline schedules. Pure; the worker executes the lists and knows no schedule by name.
#ifndef PENSTOCK_CORE_SCHEDULE_SCHEDULE_H_
#define PENSTOCK_CORE_SCHEDULE_SCHEDULE_H_

#include "absl/status/statusor.h"
#include "core/schedule/instruction.h"

namespace penstock {

enum class ScheduleKind {
  // All forward passes, then all backward passes (Huang et al. 2019, "GPipe").
  kGpipe,
  // One forward, one backward after a warm-up of (stages - 1 - stage) forward passes, then a flush (Narayanan et al.
  // 2021, "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM", PipeDream-Flush).
  k1F1B,
  // Forward passes alone, for validation: nothing kept for a backward pass, no gradients, no update.
  kForwardOnly,
};

// "gpipe", "1f1b", "forward-only".
const char* ScheduleKindName(ScheduleKind kind);

// The schedule of a step. Every stage runs its backward passes in micro-batch order, so that gradients are added in the
// same order whatever the schedule. Lists are free of deadlock even where a send waits for its receiver.
// INVALID_ARGUMENT unless 1 <= stages and 1 <= micro_batches.
absl::StatusOr<Schedule> BuildSchedule(ScheduleKind kind, int stages, int micro_batches);

// The most micro-batches whose activations `stage` holds at once: from the beginning of a forward pass to the end of
// the backward pass of the same micro-batch. A list without backward passes holds one at a time.
int PeakActivations(const Schedule& schedule, int stage);

}  // namespace penstock

#endif  // PENSTOCK_CORE_SCHEDULE_SCHEDULE_H_
