// The decision to commit a training step: a pure function of what the shards prepared and of the job's optimizer, so
// that whoever completes the step (its leader, or the coordinator after the leader died) computes the same bits.
//
// Thread-safe: free functions without state.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

// Decides the step that all shards have prepared. `prepared` holds one entry for each shard, in shard order, so that
// the concatenation of their piece_square_sums is in canonical piece order whatever the number of shards.
//
//   gradient_norm  = sqrt(sum of all piece sums, added in piece order in double) / target_count
//   gradient_scale = min(1, grad_clip / (gradient_norm + 1e-6)) / target_count     (grad_clip 0: no clipping)
//   bias_correction_i = 1 / (1 - beta_i^step), in double, rounded to float          (Kingma and Ba, 2015, algorithm 1)
//
// Errors: INVALID_ARGUMENT when the shards don't agree on step or inputs, or the inputs make no sense (naming the
// shard); FAILED_PRECONDITION "step k: gradient norm is not finite" (or loss): such a step is never committed.
absl::StatusOr<v1::StepDecision> Decide(const v1::OptimizerSpec& optimizer, uint64_t total_steps,
                                        const std::vector<v1::PreparedStep>& prepared);

// The record of the step that `decision` committed under `epoch`. step_seconds and validation_loss stay unset: whoever
// measured them fills them in.
v1::StepRecord MakeRecord(const v1::StepDecision& decision, uint64_t epoch);

// Whether two sets of inputs, or two decisions, are the same bits.
bool SameInputs(const v1::StepInputs& a, const v1::StepInputs& b);
bool SameDecision(const v1::StepDecision& a, const v1::StepDecision& b);

}  // namespace penstock
