// The coordinator's side of a change of epoch: seal the new epoch on every shard, decide the step that the old one left
// open, and say which version the new epoch starts from. A pure state machine: events and time in, actions out; the
// coordinator sends the RPCs and puts the actions into effect.
//
// Not thread-safe: driven by the job's event loop. One object for one epoch. The epoch is in the store before Start.
//
//   Start -> SendSeal to every shard -> all have reported:
//     some shard has committed step k and others have not: all commit k, with the decision recorded by the one that
//     has; all have prepared k:                                 all commit k, with Decide() of what they prepared;
//     else:                                                those that have prepared something discard it
//   -> SendDecide where something is to be done -> Ready.
// No answer means ask again, for as long as the object lives; the job's owner says so to the user (WaitingFor) and may
// give up by dropping the object, which is always safe: the next epoch starts from what the shards hold.
//
// Invariants (asserted):
//   E1 Nothing is decided before every shard has reported under this epoch.
//   E2 The decision, once made, never changes.
//   E3 Ready only when every shard holds the same version.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/commit/backoff.h"
#include "protos/penstock/v1/job.pb.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

class EpochChange {
 public:
  struct Options {
    // The new epoch.
    uint64_t epoch = 0;
    // The epoch under which the shards were opened (JobMachine's, from the store). A shard whose state was filled under
    // another one isn't of this job's history any more: RestoreNeeded.
    uint64_t open_epoch = 0;
    // By shard: ids for messages ("params-1"), and the incarnation of the process that was opened; 0 where it isn't
    // known.
    std::vector<std::string> shards;
    std::vector<uint64_t> incarnations;
    v1::OptimizerSpec optimizer;
    uint64_t total_steps = 0;
    BackoffOptions backoff;
  };

  struct SendSeal {
    int shard = 0;
  };
  struct SendDecide {
    int shard = 0;
    uint64_t step = 0;
    // Absent: discard.
    std::optional<v1::StepDecision> decision;
  };
  // The end: every shard holds version start_step, and nothing is open.
  struct Ready {
    uint64_t start_step = 0;
    // The step that this change completed for its dead leader: start_step's; its record is missing in the history.
    std::optional<v1::StepDecision> completed;
    // Of the shards' processes, in shard order.
    std::vector<uint64_t> incarnations;
  };
  // The end: a shard lost what it held. The job must be opened again on all shards, under a newer epoch.
  struct RestoreNeeded {
    std::string reason;
  };
  // The end. FAILED_PRECONDITION: a newer epoch is sealed, so this coordinator is an old one and must stop touching the
  // job. INTERNAL: the shards contradict each other (a bug; the job fails and nothing is changed).
  struct ChangeFailed {
    absl::Status status;
  };
  using Action = std::variant<SendSeal, SendDecide, Ready, RestoreNeeded, ChangeFailed>;
  using Actions = std::vector<Action>;

  explicit EpochChange(Options options);

  Actions Start(absl::Time now);
  Actions OnSealReply(int shard, const absl::StatusOr<v1::SealResponse>& reply, absl::Time now);
  Actions OnDecideReply(int shard, const absl::StatusOr<v1::DecideResponse>& reply, absl::Time now);
  // Asks again where it is due.
  Actions OnTick(absl::Time now);
  absl::Time NextTick() const;

  // "params-1 (UNAVAILABLE: connection refused)": the shards that haven't answered yet, with their last error; empty
  // when it has ended.
  std::string WaitingFor() const;
  uint64_t epoch() const { return options_.epoch; }
  bool ended() const { return phase_ == Phase::kEnded; }

 private:
  enum class Phase { kNotStarted, kSealing, kDeciding, kEnded };
  struct Shard {
    bool answered = false;  // in this phase
    absl::Time retry_at = absl::InfiniteFuture();
    Backoff backoff;
    absl::Status last_error;
    v1::SealResponse report;
  };
  // What to do about the open step, from the shards' reports.
  struct Outcome {
    uint64_t start_step = 0;
    uint64_t open_step = 0;
    std::optional<v1::StepDecision> commit;
    // By shard: whether it needs a SendDecide.
    std::vector<bool> tell;
  };

  Action Send(int shard) const;
  Actions OnError(int shard, const absl::Status& status, absl::Time now);
  std::optional<std::string> FindLostState() const;
  absl::StatusOr<Outcome> Conclude() const;
  absl::StatusOr<Outcome> ConcludeCommitted(uint64_t highest) const;
  absl::StatusOr<Outcome> ConcludePrepared(uint64_t committed) const;
  Actions StartDeciding();
  Actions End(Action action);
  Actions EndReady();
  bool AllAnswered() const;
  std::string Name(int shard) const;

  const Options options_;
  Phase phase_ = Phase::kNotStarted;
  std::vector<Shard> shards_;
  Outcome outcome_;
};

}  // namespace penstock
