// Proves that a schedule does what it should, or says what is wrong and where.
#ifndef PENSTOCK_CORE_SCHEDULE_VALIDATOR_H_
#define PENSTOCK_CORE_SCHEDULE_VALIDATOR_H_

#include <vector>

#include "absl/status/status.h"
#include "core/schedule/instruction.h"

namespace penstock {

struct ScheduleLimits {
  // For each stage the most micro-batches with activations in flight (PeakActivations); empty: no limit.
  std::vector<int> activations_max;
  // True for a schedule of forward passes alone.
  bool forward_only = false;
};

// OK when the schedule is
// 1. complete: each stage has each micro-batch's forward pass, backward pass and the sends and receives that its place
//    in the pipeline asks for exactly once, with the right peer, and one ReduceGradients and one OptimizerStep at the
//    end;
// 2. in order: receive before forward before send, backward after forward and after the gradient's arrival, backward
//    passes in micro-batch order;
// 3. free of deadlock, both with sends that wait for their receiver (rendezvous) and with sends that never wait;
// 4. within its activation limit.
// Else FAILED_PRECONDITION that names stage, position and instruction: "stage 1, instruction 4 (Backward mb 2): ...".
absl::Status ValidateSchedule(const Schedule& schedule, int micro_batches, const ScheduleLimits& limits = {});

}  // namespace penstock

#endif  // PENSTOCK_CORE_SCHEDULE_VALIDATOR_H_
