// The step state of one job on one shard of the parameter service: which epoch is sealed, which version is committed,
// and how far the open step has come. A pure state machine; the service around it does the data work (buffers, sums,
// kernels) and tells it when that is done.
//
// Not thread-safe: the service guards it with the job's mutex. No event does more than bookkeeping, so holding the
// mutex over one is cheap. Data work (copying a chunk, a piece's sum, the update) happens outside the mutex, between
// the event that allows it and the event that reports it. The rules below make that free of races:
//
//   - OnChunk hands out elements to write at most once: of a duplicate, only what nobody has written or is writing.
//   - A piece's sum is asked for when all its elements are written; nobody writes to it after that.
//   - An update is handed out once, when nothing is being written or summed.
//   - Seal takes effect at once but is answered only when no data work is under way (kWait).
//
// Usage in the service:
//   Push:    for each chunk: lock; plan = OnChunk(...); unlock; copy plan.to_write; lock; pieces = OnChunkWritten(...);
//            unlock; sum each of `pieces`; lock; OnPieceSum(...); unlock; wake waiting Prepares.
//   Prepare: OnPrepare; on kWait sleep until woken (or the deadline), then call it again.
//   Commit:  OnCommit; on kApply run the update, take snapshot and digest as due, call OnApplied; on kWait sleep,
//   again. Seal:    OnSeal; wake everybody; on kWait sleep until woken, then again; on kDone answer Report(). Decide:
//   OnDecide; as Commit. Pull:    CheckPull; on kWait sleep until woken, then again.
// Every waiter is woken after OnChunkWritten, OnPieceSum, OnApplied, OnSeal and OnDecide, asks again, and so learns
// when its epoch was fenced meanwhile.
//
// Errors of all events that name an epoch: FAILED_PRECONDITION for one older than the sealed one; NOT_FOUND for a newer
// one, which this state never was sealed for (an older coordinator opened the job here after the shard had lost its
// memory).
//
// Invariants (asserted in Check()):
//   S1 The committed step grows by one at a time, by an update under a decision for exactly the next step.
//   S2 A prepared step is given up only by a Decide of an epoch newer than the one that it was prepared under.
//   S3 An event of an epoch other than the sealed one changes nothing.
//   S4 A step is prepared only when every element of the shard's range was written and every piece was summed.
//   S5 A decision is applied only to the inputs that were prepared.
//   S6 While an update is under way nothing is written and nothing is collected.
//
// A *published* job (zero.mirror off) pushes its whole state, weights and moments, at some steps instead of gradients
// at every one: chunks of three kinds that replace the state in place, Prepare when all of them are in, Commit without
// an update. The committed step then grows by more than one (S1), and from the first chunk until the commit the state
// is no version's: intact() is false, nobody may read it, and a Seal answers NOT_FOUND, so that the job is opened again
// from a checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

class ShardStep {
 public:
  struct Options {
    // The shard's own range of the canonical space. Begins at a multiple of piece_elements.
    int64_t range_begin = 0;
    int64_t range_end = 0;
    int64_t piece_elements = 65536;
    // The epoch of the OpenJob that filled the state; sealed from the start.
    uint64_t open_epoch = 0;
    // Version that the state was filled with: 0, or the checkpoint's step.
    uint64_t committed_step = 0;
    // Of the shard's process.
    uint64_t incarnation = 0;
    // The job is published: chunks have a state kind.
    bool published = false;
  };

  // What the service does with an event that may have to wait or to do data work.
  enum class Verdict {
    // Nothing (more) to do: answer OK.
    kDone,
    // Not yet. Sleep until woken, then hand in the same event again.
    kWait,
    // Run the update of apply_decision() outside the mutex, then call OnApplied.
    kApply,
  };

  // A chunk's elements that the caller must write now, outside the mutex. Empty when all of them are there already.
  struct ChunkPlan {
    // Handed back with OnChunkWritten.
    uint64_t generation = 0;
    std::vector<ElementRange> to_write;
    // As in OnChunk.
    int kind = 0;
  };
  // A piece whose elements are all written: the caller sums its squares and hands the sum to OnPieceSum.
  struct WholePiece {
    uint64_t generation = 0;
    // Index of the piece in the canonical space, and its elements.
    int64_t piece = 0;
    ElementRange range;
  };

  explicit ShardStep(Options options);

  // The first message of a push stream. FAILED_PRECONDITION: an old epoch, or the step is not the next one. A push for
  // the last committed step or the prepared step is allowed; its chunks are dropped. UNAVAILABLE: data work of an
  // earlier epoch is still ending; ask again.
  absl::Status OnPushBegin(uint64_t epoch, uint64_t step) const;

  // One chunk of elements [begin, end). Errors as OnPushBegin; OUT_OF_RANGE for elements that the shard doesn't own;
  // INVALID_ARGUMENT for an empty range, or the wrong kind: 0, a gradient, unless the job is published; then 1 to
  // kStateKinds, a kind of state.
  absl::StatusOr<ChunkPlan> OnChunk(uint64_t epoch, uint64_t step, int64_t begin, int64_t end, int kind = 0);

  // The elements of a plan's to_write are written. Answers with the pieces that have become whole.
  std::vector<WholePiece> OnChunkWritten(const ChunkPlan& plan);

  void OnPieceSum(const WholePiece& piece, double square_sum);

  // kDone: prepared() holds the answer (also when the step was prepared before, or is the last committed one).
  // kWait: elements or sums are missing. FAILED_PRECONDITION: epoch, or not the next step. INVALID_ARGUMENT: the step
  // was prepared with other inputs.
  absl::StatusOr<Verdict> OnPrepare(uint64_t epoch, uint64_t step, const v1::StepInputs& inputs);

  // The answer to the Prepare that was just answered with kDone for `step`.
  const v1::PreparedStep& prepared(uint64_t step) const;

  // kApply: this caller runs the update. kWait: another one is running it. kDone: the step is committed.
  // FAILED_PRECONDITION: epoch; the step isn't prepared here, or was prepared with other inputs than the decision's.
  absl::StatusOr<Verdict> OnCommit(uint64_t epoch, const v1::StepDecision& decision);

  // Of the update under way, from kApply to OnApplied.
  const v1::StepDecision& apply_decision() const;

  // The update is done: its step is the committed one, and pulls of it may go on.
  void OnApplied();

  // NOT_FOUND when a published state is torn.
  // Seals `epoch`: older ones are refused from this call on, and what an older one collected is dropped. Idempotent (a
  // late duplicate drops nothing of its own epoch). kDone: answer Report(). kWait: data work is under way.
  // FAILED_PRECONDITION: a newer epoch is sealed.
  absl::StatusOr<Verdict> OnSeal(uint64_t epoch);

  // The answer to Seal.
  v1::SealResponse Report() const;

  // Ends the step that an older epoch left prepared. kApply, kWait as OnCommit; kDone: committed already, discarded
  // now, or nothing to end. FAILED_PRECONDITION: an old epoch, or a commit of a step that isn't prepared here.
  absl::StatusOr<Verdict> OnDecide(uint64_t epoch, uint64_t step, const std::optional<v1::StepDecision>& decision);

  // kDone: the weights are those of `version`. kWait: not committed yet. FAILED_PRECONDITION: an old epoch; the version
  // is past (or being replaced), or further ahead than the next one.
  absl::StatusOr<Verdict> CheckPull(uint64_t epoch, uint64_t version) const;

  uint64_t sealed_epoch() const { return sealed_epoch_; }
  uint64_t open_epoch() const { return options_.open_epoch; }
  uint64_t committed_step() const { return committed_step_; }
  bool applying() const { return applying_.has_value(); }
  // Whether the numbers held are those of committed_step(). Always, unless the job is published.
  bool intact() const;
  static constexpr int kStateKinds = 3;
  // Whether chunks are being written, pieces summed or an update run. Close frees nothing before it is false.
  bool busy() const { return writes_in_flight_ + sums_in_flight_ + stale_work_ > 0 || applying(); }
  // The decision of the last committed step; nullopt at version 0 and right after a checkpoint was loaded.
  const std::optional<v1::StepDecision>& last_decision() const { return last_decision_; }
  // The epoch that prepared the last committed step (for MakeRecord): the same on every shard, whoever completed it.
  uint64_t last_decision_epoch() const { return last_decision_epoch_; }

 private:
  // What has been collected of step committed_step_ + 1.
  struct Collecting {
    uint64_t epoch = 0;
    uint64_t step = 0;
    // Of a published job: kind k's elements stand behind those of kind k - 1.
    RangeSet reserved;  // handed out to be written, or written
    RangeSet written;
    std::vector<std::optional<double>> sums;  // by piece of the shard
    std::vector<bool> sum_asked;
    int64_t sums_missing = 0;
  };
  struct Prepared {
    uint64_t epoch = 0;
    v1::PreparedStep step;
  };

  absl::Status CheckEpoch(uint64_t epoch) const;
  absl::Status CheckStep(uint64_t step, const char* what) const;
  ElementRange PieceRange(int64_t local_piece) const;
  int64_t PieceCount() const;
  // Whether everything of the open step is in.
  bool Complete() const;
  // How far kind `kind` is moved in Collecting's sets.
  int64_t KindOffset(int kind) const;
  void OpenCollecting(uint64_t step);
  void DropCollecting();
  absl::StatusOr<Verdict> CommitPrepared(const v1::StepDecision& decision);
  // A decision for a step that is committed, or being committed.
  absl::StatusOr<Verdict> CommitAgain(const v1::StepDecision& decision) const;
  void Check() const;

  const Options options_;
  uint64_t sealed_epoch_;
  uint64_t committed_step_;
  // Grows with every step that is opened or dropped: data work of an older generation changes nothing.
  uint64_t generation_ = 0;
  // Of the step that is being collected; and of steps that were dropped meanwhile.
  int64_t writes_in_flight_ = 0;
  int64_t sums_in_flight_ = 0;
  int64_t stale_work_ = 0;
  // Of a published job: a step that had replaced some of the state was dropped.
  bool torn_ = false;
  std::optional<Collecting> collecting_;
  std::optional<Prepared> prepared_;
  std::optional<v1::StepDecision> applying_;
  std::optional<v1::StepDecision> last_decision_;
  uint64_t last_decision_epoch_ = 0;
  // Of the last committed step, for a Prepare that comes again.
  std::optional<v1::PreparedStep> last_prepared_;
};

// What OpenJob of `epoch` does. `open` is the job's state on this shard, or null. (The initialisation itself may be
// under way: answer UNAVAILABLE to all calls but an OpenJob of the same epoch, which waits for it.)
enum class OpenVerdict {
  // Not open: allocate and fill.
  kOpen,
  // Open under the same epoch: answer with what is held.
  kAlreadyOpen,
  // Open under an older epoch, whose state is given up: free it (when it isn't busy), then allocate and fill.
  kReplace,
};
// FAILED_PRECONDITION: an epoch newer than `epoch` is sealed.
absl::StatusOr<OpenVerdict> CheckOpen(const ShardStep* open, uint64_t epoch);
// FAILED_PRECONDITION: an epoch newer than `epoch` is sealed. OK when the job isn't open, too.
absl::Status CheckClose(const ShardStep* open, uint64_t epoch);

}  // namespace penstock
