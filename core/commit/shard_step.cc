#include "core/commit/shard_step.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/decision.h"

namespace penstock {

ShardStep::ShardStep(Options options)
    : options_(options), sealed_epoch_(options.open_epoch), committed_step_(options.committed_step) {
  PENSTOCK_CHECK(options_.piece_elements > 0 && options_.range_begin % options_.piece_elements == 0);
  PENSTOCK_CHECK(options_.range_begin >= 0 && options_.range_begin <= options_.range_end);
}

// --- What is checked of every event. ---

absl::Status ShardStep::CheckEpoch(uint64_t epoch) const {
  if (epoch == sealed_epoch_) return absl::OkStatus();
  if (epoch < sealed_epoch_) {
    return absl::FailedPreconditionError(
        absl::StrCat("epoch ", epoch, " is over: epoch ", sealed_epoch_, " is sealed"));
  }
  // Whoever uses an epoch has sealed it here before. So this is not the state that was sealed, but an older epoch's
  // that was opened again after the sealed one was lost.
  return absl::NotFoundError(
      absl::StrCat("the job as of epoch ", epoch, " isn't held: epoch ", sealed_epoch_, " is sealed"));
}

absl::Status ShardStep::CheckStep(uint64_t step, const char* what) const {
  if (step == committed_step_ + 1 || (step == committed_step_ && step > 0)) return absl::OkStatus();
  if (options_.published && step > committed_step_) {
    const uint64_t open = prepared_.has_value()     ? prepared_->step.step()
                          : collecting_.has_value() ? collecting_->step
                                                    : step;
    if (open == step) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(what, " of step ", step, ": step ", open, " is being published"));
  }
  return absl::FailedPreconditionError(absl::StrCat(what, " of step ", step, ": step ", committed_step_,
                                                    " is committed, so the next is ", committed_step_ + 1));
}

int64_t ShardStep::PieceCount() const {
  return (options_.range_end - options_.range_begin + options_.piece_elements - 1) / options_.piece_elements;
}

ElementRange ShardStep::PieceRange(int64_t local_piece) const {
  const int64_t begin = options_.range_begin + local_piece * options_.piece_elements;
  return {begin, std::min(begin + options_.piece_elements, options_.range_end)};
}

bool ShardStep::intact() const {
  if (!options_.published) return true;
  return !torn_ && stale_work_ == 0 && !prepared_.has_value() &&
         !(collecting_.has_value() && !collecting_->reserved.empty());
}

int64_t ShardStep::KindOffset(int kind) const {
  return options_.published ? (kind - 1) * (options_.range_end - options_.range_begin) : 0;
}

bool ShardStep::Complete() const {
  if (!options_.published) return collecting_->sums_missing == 0;
  return collecting_->written.size() == kStateKinds * (options_.range_end - options_.range_begin);
}

void ShardStep::Check() const {
  const auto is_next = [this](uint64_t step) {
    return options_.published ? step > committed_step_ : step == committed_step_ + 1;
  };
  // S6, and S5 by SameInputs before an update is handed out.
  PENSTOCK_CHECK(!applying() || (prepared_.has_value() && is_next(prepared_->step.step())));
  PENSTOCK_CHECK(!applying() || applying_->step() == prepared_->step.step());
  // S4: a step is either being collected or prepared, and a prepared one has no work left.
  PENSTOCK_CHECK(!(collecting_.has_value() && prepared_.has_value()));
  PENSTOCK_CHECK(!prepared_.has_value() || (writes_in_flight_ == 0 && sums_in_flight_ == 0));
  PENSTOCK_CHECK(!prepared_.has_value() || is_next(prepared_->step.step()));
  PENSTOCK_CHECK(!collecting_.has_value() || collecting_->epoch == sealed_epoch_);
  PENSTOCK_CHECK(!prepared_.has_value() || prepared_->epoch <= sealed_epoch_);
  PENSTOCK_CHECK(writes_in_flight_ >= 0 && sums_in_flight_ >= 0 && stale_work_ >= 0);
}

// --- Collecting: chunks and pieces. ---

void ShardStep::OpenCollecting(uint64_t step) {
  PENSTOCK_CHECK(stale_work_ == 0 && !applying() && !prepared_.has_value());
  Collecting& open = collecting_.emplace();
  ++generation_;
  open.epoch = sealed_epoch_;
  open.step = step;
  if (options_.published) return;
  open.sums.resize(PieceCount());
  open.sum_asked.resize(PieceCount(), false);
  open.sums_missing = PieceCount();
}

void ShardStep::DropCollecting() {
  if (!intact()) torn_ = true;
  collecting_.reset();
  ++generation_;
  // What is still being written or summed for the dropped step ends some time; until then the buffer isn't free.
  stale_work_ += writes_in_flight_ + sums_in_flight_;
  writes_in_flight_ = sums_in_flight_ = 0;
}

absl::Status ShardStep::OnPushBegin(uint64_t epoch, uint64_t step) const {
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(epoch));
  PENSTOCK_RETURN_IF_ERROR(CheckStep(step, "push"));
  if (step == committed_step_) return absl::OkStatus();
  if (prepared_.has_value() && prepared_->epoch != epoch) {
    return absl::FailedPreconditionError(
        absl::StrCat("push of step ", step, ": it is prepared under epoch ", prepared_->epoch, " and not decided yet"));
  }
  if (!prepared_.has_value() && stale_work_ > 0) {
    return absl::UnavailableError(
        absl::StrCat("push of step ", step, ": writes of an earlier epoch are ending; ask again"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ShardStep::ChunkPlan> ShardStep::OnChunk(uint64_t epoch, uint64_t step, int64_t begin, int64_t end,
                                                        int kind) {
  PENSTOCK_RETURN_IF_ERROR(OnPushBegin(epoch, step));
  if (begin >= end) return absl::InvalidArgumentError(absl::StrCat("chunk [", begin, ", ", end, ") is empty"));
  if (begin < options_.range_begin || end > options_.range_end) {
    return absl::OutOfRangeError(absl::StrCat("chunk [", begin, ", ", end, ") isn't within this shard's elements [",
                                              options_.range_begin, ", ", options_.range_end, ")"));
  }
  if (options_.published ? kind < 1 || kind > kStateKinds : kind != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a chunk of kind ", kind, ": ",
                                                   options_.published
                                                       ? "this job's state is published, not its gradients"
                                                       : "this job takes gradients, which have no kind"));
  }
  ChunkPlan plan;
  plan.kind = kind;
  // A duplicate of what is prepared or committed: accepted and dropped.
  if (step == committed_step_ || prepared_.has_value()) return plan;
  if (!collecting_.has_value()) OpenCollecting(step);
  plan.generation = generation_;
  const int64_t offset = KindOffset(kind);
  for (const ElementRange& range : collecting_->reserved.Missing({begin + offset, end + offset})) {
    collecting_->reserved.Add(range);
    plan.to_write.push_back({range.begin - offset, range.end - offset});
  }
  if (!plan.to_write.empty()) ++writes_in_flight_;
  Check();
  return plan;
}

std::vector<ShardStep::WholePiece> ShardStep::OnChunkWritten(const ChunkPlan& plan) {
  std::vector<WholePiece> whole;
  if (plan.to_write.empty()) return whole;
  if (plan.generation != generation_ || !collecting_.has_value()) {
    --stale_work_;
    Check();
    return whole;
  }
  --writes_in_flight_;
  const int64_t offset = KindOffset(plan.kind);
  for (const ElementRange& range : plan.to_write) {
    collecting_->written.Add({range.begin + offset, range.end + offset});
    if (options_.published) continue;
    const int64_t first = (range.begin - options_.range_begin) / options_.piece_elements;
    const int64_t last = (range.end - 1 - options_.range_begin) / options_.piece_elements;
    for (int64_t piece = first; piece <= last; ++piece) {
      if (collecting_->sum_asked[piece] || !collecting_->written.Covers(PieceRange(piece))) continue;
      collecting_->sum_asked[piece] = true;
      ++sums_in_flight_;
      whole.push_back({generation_, options_.range_begin / options_.piece_elements + piece, PieceRange(piece)});
    }
  }
  Check();
  return whole;
}

void ShardStep::OnPieceSum(const WholePiece& piece, double square_sum) {
  if (piece.generation != generation_ || !collecting_.has_value()) {
    --stale_work_;
    Check();
    return;
  }
  --sums_in_flight_;
  const int64_t local = piece.piece - options_.range_begin / options_.piece_elements;
  PENSTOCK_CHECK(local >= 0 && local < PieceCount() && !collecting_->sums[local].has_value());
  collecting_->sums[local] = square_sum;
  --collecting_->sums_missing;
  Check();
}

// --- Prepare and commit. ---

absl::StatusOr<ShardStep::Verdict> ShardStep::OnPrepare(uint64_t epoch, uint64_t step, const v1::StepInputs& inputs) {
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(epoch));
  PENSTOCK_RETURN_IF_ERROR(CheckStep(step, "prepare"));
  const v1::PreparedStep* held = nullptr;
  if (step == committed_step_) {
    if (!last_prepared_.has_value()) {
      return absl::FailedPreconditionError(absl::StrCat("prepare of step ", step, ": it is committed already"));
    }
    held = &*last_prepared_;
  } else if (prepared_.has_value()) {
    if (prepared_->epoch != epoch) {
      return absl::FailedPreconditionError(absl::StrCat("prepare of step ", step, ": it is prepared under epoch ",
                                                        prepared_->epoch, " and not decided yet"));
    }
    held = &prepared_->step;
  }
  if (held != nullptr) {
    if (SameInputs(held->inputs(), inputs)) return Verdict::kDone;
    return absl::InvalidArgumentError(absl::StrCat("prepare of step ", step, ": it was prepared with other inputs"));
  }
  if (stale_work_ > 0) return Verdict::kWait;
  if (!collecting_.has_value()) OpenCollecting(step);
  if (!Complete()) return Verdict::kWait;

  Prepared& prepared = prepared_.emplace();
  prepared.epoch = epoch;
  prepared.step.set_step(step);
  *prepared.step.mutable_inputs() = inputs;
  for (const std::optional<double>& sum : collecting_->sums) prepared.step.add_piece_square_sums(*sum);
  collecting_.reset();
  Check();
  return Verdict::kDone;
}

const v1::PreparedStep& ShardStep::prepared(uint64_t step) const {
  if (step == committed_step_) {
    PENSTOCK_CHECK(last_prepared_.has_value());
    return *last_prepared_;
  }
  PENSTOCK_CHECK(prepared_.has_value() && prepared_->step.step() == step);
  return prepared_->step;
}

absl::StatusOr<ShardStep::Verdict> ShardStep::CommitPrepared(const v1::StepDecision& decision) {
  if (!SameInputs(prepared_->step.inputs(), decision.inputs())) {
    return absl::FailedPreconditionError(
        absl::StrCat("commit of step ", decision.step(), ": it was prepared with other inputs than the decision's"));
  }
  applying_ = decision;
  Check();
  return Verdict::kApply;
}

absl::StatusOr<ShardStep::Verdict> ShardStep::CommitAgain(const v1::StepDecision& decision) const {
  // Of steps before the last one the decision isn't kept: the epoch vouches for them.
  if (decision.step() < committed_step_) return Verdict::kDone;
  const std::optional<v1::StepDecision>& known = decision.step() == committed_step_ ? last_decision_ : applying_;
  if (!known.has_value() || !SameDecision(*known, decision)) {
    return absl::FailedPreconditionError(
        absl::StrCat("commit of step ", decision.step(), ": it is committed with another decision"));
  }
  return decision.step() == committed_step_ ? Verdict::kDone : Verdict::kWait;
}

absl::StatusOr<ShardStep::Verdict> ShardStep::OnCommit(uint64_t epoch, const v1::StepDecision& decision) {
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(epoch));
  const uint64_t step = decision.step();
  if (step <= committed_step_) return CommitAgain(decision);
  PENSTOCK_RETURN_IF_ERROR(CheckStep(step, "commit"));
  if (applying()) return CommitAgain(decision);
  if (!prepared_.has_value() || prepared_->epoch != epoch) {
    return absl::FailedPreconditionError(
        absl::StrCat("commit of step ", step, ": it isn't prepared under epoch ", epoch));
  }
  return CommitPrepared(decision);
}

const v1::StepDecision& ShardStep::apply_decision() const {
  PENSTOCK_CHECK(applying());
  return *applying_;
}

void ShardStep::OnApplied() {
  PENSTOCK_CHECK(applying());
  Check();
  committed_step_ = applying_->step();  // S1, by Check()
  last_decision_ = std::move(*applying_);
  last_decision_epoch_ = prepared_->epoch;
  last_prepared_ = std::move(prepared_->step);
  applying_.reset();
  prepared_.reset();
  Check();
}

// --- Epochs. ---

absl::StatusOr<ShardStep::Verdict> ShardStep::OnSeal(uint64_t epoch) {
  if (epoch < sealed_epoch_) return CheckEpoch(epoch);
  sealed_epoch_ = epoch;
  if (collecting_.has_value() && collecting_->epoch < epoch) DropCollecting();
  Check();
  // The report must not change after it was given: an update that began before the seal ends first.
  if (stale_work_ > 0 || applying()) return Verdict::kWait;
  if (intact()) return Verdict::kDone;
  return absl::NotFoundError(absl::StrCat("the state that was to follow step ", committed_step_, " came only in part"));
}

v1::SealResponse ShardStep::Report() const {
  v1::SealResponse report;
  report.set_committed_step(committed_step_);
  if (last_decision_.has_value()) *report.mutable_last_decision() = *last_decision_;
  if (prepared_.has_value()) *report.mutable_prepared() = prepared_->step;
  report.set_incarnation(options_.incarnation);
  report.set_open_epoch(options_.open_epoch);
  return report;
}

absl::StatusOr<ShardStep::Verdict> ShardStep::OnDecide(uint64_t epoch, uint64_t step,
                                                       const std::optional<v1::StepDecision>& decision) {
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(epoch));
  if (decision.has_value() && decision->step() != step) {
    return absl::InvalidArgumentError(
        absl::StrCat("decide of step ", step, ": the decision is about step ", decision->step()));
  }
  const bool left_over = prepared_.has_value() && prepared_->step.step() == step && prepared_->epoch < epoch;
  if (!decision.has_value()) {
    // S2. A step prepared under this very epoch isn't touched: the message is a late duplicate.
    if (applying()) return Verdict::kWait;
    if (left_over) {
      torn_ = torn_ || options_.published;
      prepared_.reset();
    }
    Check();
    return Verdict::kDone;
  }
  if (step <= committed_step_ || (applying() && step == applying_->step())) return CommitAgain(*decision);
  if (!left_over) {
    return absl::FailedPreconditionError(
        absl::StrCat("decide of step ", step, ": no older epoch has left it prepared here"));
  }
  return CommitPrepared(*decision);
}

absl::StatusOr<ShardStep::Verdict> ShardStep::CheckPull(uint64_t epoch, uint64_t version) const {
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(epoch));
  if (version == committed_step_ && !applying() && intact()) return Verdict::kDone;
  if (version == committed_step_ + 1 || (options_.published && version > committed_step_)) return Verdict::kWait;
  if (version <= committed_step_) {
    return absl::FailedPreconditionError(absl::StrCat("pull of version ", version, ": it is past, version ",
                                                      committed_step_ + (applying() ? 1 : 0), " replaces it"));
  }
  return absl::FailedPreconditionError(absl::StrCat("pull of version ", version, ": version ", committed_step_,
                                                    " is committed, so no version beyond ", committed_step_ + 1,
                                                    " can be waited for"));
}

// --- Opening and closing. ---

absl::StatusOr<OpenVerdict> CheckOpen(const ShardStep* open, uint64_t epoch) {
  if (open == nullptr) return OpenVerdict::kOpen;
  if (epoch < open->sealed_epoch()) {
    return absl::FailedPreconditionError(
        absl::StrCat("open under epoch ", epoch, ": epoch ", open->sealed_epoch(), " is sealed"));
  }
  return epoch == open->open_epoch() ? OpenVerdict::kAlreadyOpen : OpenVerdict::kReplace;
}

absl::Status CheckClose(const ShardStep* open, uint64_t epoch) {
  if (open == nullptr || epoch >= open->sealed_epoch()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("close under epoch ", epoch, ": epoch ", open->sealed_epoch(), " is sealed"));
}

}  // namespace penstock
