// The leader's side of a step: Prepare on every shard, Decide, Commit on every shard, asking again what got no answer.
// A pure state machine: events and time in, actions out; the worker's runtime sends the RPCs.
//
// Not thread-safe: driven by one thread. One object serves one epoch of one job, step after step.
//
//   StepLeader leader({.shard_count = 2, .epoch = 7, .optimizer = spec.optimizer(), .total_steps =
//   spec.training().steps()}); actions = leader.Start(step, inputs, now); loop: execute the actions (RPCs
//   asynchronously; Prepare may block at the shard); as replies come:
//         actions = leader.OnPrepareReply(shard, reply, now) / OnCommitReply(...); at NextTick(): actions =
//         leader.OnTick(now)
//   until StepDone (then Start the next step) or StepFailed (the rank fails; a new epoch clears up).
//
// Invariants (asserted):
//   L1 Commit is sent only when every shard has answered this step's Prepare.
//   L2 A step has one decision; it never changes while it is being committed.
//   L3 After StepFailed nothing is sent any more. (Failing is always safe: the next epoch completes or discards the
//   step.)
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/commit/backoff.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

class StepLeader {
 public:
  struct Options {
    int shard_count = 0;
    uint64_t epoch = 0;
    v1::OptimizerSpec optimizer;
    uint64_t total_steps = 0;
    BackoffOptions backoff;
    // The job's state is published (zero.mirror off): its shards have no sums, and the decision comes with the step.
    bool published = false;
    // A step whose commit takes longer fails the rank (DEADLINE_EXCEEDED, naming the shards that didn't answer). It
    // covers the other ranks' backward passes and pushes, so it is generous; lost peers are noticed much earlier
    // elsewhere.
    absl::Duration step_timeout = absl::Minutes(10);
  };

  struct SendPrepare {
    int shard = 0;
    uint64_t step = 0;
    v1::StepInputs inputs;
  };
  struct SendCommit {
    int shard = 0;
    v1::StepDecision decision;
  };
  // Every shard has committed the step.
  struct StepDone {
    v1::StepDecision decision;
  };
  // This leader can't go on. `permanent`: another try would fail in the same way (the norm isn't finite).
  struct StepFailed {
    absl::Status status;
    bool permanent = false;
  };
  using Action = std::variant<SendPrepare, SendCommit, StepDone, StepFailed>;
  using Actions = std::vector<Action>;

  explicit StepLeader(Options options);

  // Begins `step`. Only when idle (nothing started, or after StepDone). `known`: the decision that the ranks have made
  // and updated their own weights with. Where the shards replay the step, theirs must be the same (else the step fails
  // for good: the two states would part); a published one is committed with it.
  Actions Start(uint64_t step, const v1::StepInputs& inputs, absl::Time now,
                const std::optional<v1::StepDecision>& known = std::nullopt);

  // The reply of a shard to the last SendPrepare / SendCommit for it. UNAVAILABLE, DEADLINE_EXCEEDED and their like are
  // asked again after a back-off; every other error ends in StepFailed: FAILED_PRECONDITION means fenced, NOT_FOUND
  // that the shard lost the job. A reply that is no longer waited for is ignored.
  Actions OnPrepareReply(int shard, const absl::StatusOr<v1::PreparedStep>& reply, absl::Time now);
  // `committed_step` as in CommitResponse.
  Actions OnCommitReply(int shard, const absl::StatusOr<uint64_t>& committed_step, absl::Time now);

  // Sends again what is due.
  Actions OnTick(absl::Time now);
  // When OnTick is due next; InfiniteFuture when nothing is under way.
  absl::Time NextTick() const;

  bool idle() const { return phase_ == Phase::kIdle; }

 private:
  enum class Phase { kIdle, kPreparing, kCommitting, kFailed };
  struct Shard {
    bool answered = false;  // in this phase
    std::optional<v1::PreparedStep> prepared;
    absl::Time retry_at = absl::InfiniteFuture();
    Backoff backoff;
    absl::Status last_error;
  };

  Action Send(int shard) const;
  absl::StatusOr<v1::StepDecision> DecideStep() const;
  Actions StartCommit();
  Actions Fail(const absl::Status& status, bool permanent);
  Actions OnError(int shard, const absl::Status& status, absl::Time now);
  bool AllAnswered() const;
  void BeginPhase(Phase phase);

  const Options options_;
  Phase phase_ = Phase::kIdle;
  uint64_t step_ = 0;
  v1::StepInputs inputs_;
  std::optional<v1::StepDecision> known_;
  absl::Time fail_at_ = absl::InfiniteFuture();
  std::vector<Shard> shards_;
  std::optional<v1::StepDecision> decision_;
};

}  // namespace penstock
