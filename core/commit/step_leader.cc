#include "core/commit/step_leader.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/decision.h"

namespace penstock {

StepLeader::StepLeader(Options options) : options_(std::move(options)), shards_(options_.shard_count) {
  PENSTOCK_CHECK(options_.shard_count > 0);
}

bool StepLeader::AllAnswered() const {
  return std::all_of(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.answered; });
}

void StepLeader::BeginPhase(Phase phase) {
  phase_ = phase;
  for (Shard& shard : shards_) {
    shard.answered = false;
    shard.retry_at = absl::InfiniteFuture();
    shard.backoff = Backoff(options_.backoff);
    shard.last_error = absl::OkStatus();
  }
}

StepLeader::Action StepLeader::Send(int shard) const {
  if (phase_ == Phase::kPreparing) return SendPrepare{shard, step_, inputs_};
  return SendCommit{shard, *decision_};
}

StepLeader::Actions StepLeader::Start(uint64_t step, const v1::StepInputs& inputs, absl::Time now,
                                      const std::optional<v1::StepDecision>& known) {
  PENSTOCK_CHECK(phase_ == Phase::kIdle);
  PENSTOCK_CHECK(!options_.published || known.has_value());
  step_ = step;
  inputs_ = inputs;
  known_ = known;
  fail_at_ = now + options_.step_timeout;
  decision_.reset();
  for (Shard& shard : shards_) shard.prepared.reset();
  BeginPhase(Phase::kPreparing);
  Actions actions;
  for (int shard = 0; shard < options_.shard_count; ++shard) actions.push_back(Send(shard));
  return actions;
}

StepLeader::Actions StepLeader::Fail(const absl::Status& status, bool permanent) {
  phase_ = Phase::kFailed;
  return {StepFailed{status, permanent}};
}

StepLeader::Actions StepLeader::OnError(int shard, const absl::Status& status, absl::Time now) {
  if (IsTransient(status)) {
    shards_[shard].last_error = status;
    shards_[shard].retry_at = now + shards_[shard].backoff.Next();
    return {};
  }
  // FAILED_PRECONDITION: this epoch is over. NOT_FOUND: the shard lost the job. Asking again helps with neither.
  return Fail(absl::Status(status.code(), absl::StrCat("step ", step_, ": shard ", shard, " answered ",
                                                       phase_ == Phase::kPreparing ? "Prepare" : "Commit",
                                                       " with: ", status.message())),
              /*permanent=*/false);
}

StepLeader::Actions StepLeader::OnPrepareReply(int shard, const absl::StatusOr<v1::PreparedStep>& reply,
                                               absl::Time now) {
  if (phase_ != Phase::kPreparing || shards_[shard].answered) return {};
  // A late answer about an earlier step.
  if (reply.ok() && reply->step() < step_) return {};
  if (!reply.ok()) return OnError(shard, reply.status(), now);
  if (reply->step() != step_ || !SameInputs(reply->inputs(), inputs_)) {
    return Fail(absl::InternalError(absl::StrCat("step ", step_, ": shard ", shard, " prepared something else (step ",
                                                 reply->step(), ")")),
                /*permanent=*/false);
  }
  shards_[shard].prepared = *reply;
  shards_[shard].answered = true;
  shards_[shard].retry_at = absl::InfiniteFuture();
  if (!AllAnswered()) return {};
  return StartCommit();
}

absl::StatusOr<v1::StepDecision> StepLeader::DecideStep() const {
  std::vector<v1::PreparedStep> prepared;
  for (const Shard& shard : shards_) {
    PENSTOCK_CHECK(shard.prepared.has_value());  // L1
    prepared.push_back(*shard.prepared);
  }
  if (options_.published) return *known_;
  PENSTOCK_ASSIGN_OR_RETURN(v1::StepDecision decision, Decide(options_.optimizer, options_.total_steps, prepared));
  if (known_.has_value() && !SameDecision(*known_, decision)) {
    return absl::FailedPreconditionError(
        absl::StrCat("step ", step_, ": the shards' sums lead to another update than the ranks' (gradient norm ",
                     decision.gradient_norm(), " against ", known_->gradient_norm(), "), so the copies would part"));
  }
  return decision;
}

StepLeader::Actions StepLeader::StartCommit() {
  absl::StatusOr<v1::StepDecision> decision = DecideStep();
  // The same gradients come out of every new try, so a norm that isn't finite won't get better.
  if (!decision.ok()) return Fail(decision.status(), absl::IsFailedPrecondition(decision.status()));
  PENSTOCK_CHECK(!decision_.has_value());  // L2
  decision_ = *std::move(decision);
  BeginPhase(Phase::kCommitting);
  Actions actions;
  for (int shard = 0; shard < options_.shard_count; ++shard) actions.push_back(Send(shard));
  return actions;
}

StepLeader::Actions StepLeader::OnCommitReply(int shard, const absl::StatusOr<uint64_t>& committed_step,
                                              absl::Time now) {
  if (phase_ != Phase::kCommitting || shards_[shard].answered) return {};
  // A late answer about an earlier step's commit.
  if (committed_step.ok() && *committed_step < step_) return {};
  if (!committed_step.ok()) return OnError(shard, committed_step.status(), now);
  shards_[shard].answered = true;
  shards_[shard].retry_at = absl::InfiniteFuture();
  if (!AllAnswered()) return {};
  phase_ = Phase::kIdle;
  fail_at_ = absl::InfiniteFuture();
  return {StepDone{*decision_}};
}

StepLeader::Actions StepLeader::OnTick(absl::Time now) {
  if (phase_ != Phase::kPreparing && phase_ != Phase::kCommitting) return {};
  if (now >= fail_at_) {
    std::string silent;
    for (int shard = 0; shard < options_.shard_count; ++shard) {
      if (shards_[shard].answered) continue;
      absl::StrAppend(&silent, silent.empty() ? "" : ", ", shard);
      if (!shards_[shard].last_error.ok()) absl::StrAppend(&silent, " (", shards_[shard].last_error.ToString(), ")");
    }
    return Fail(absl::DeadlineExceededError(absl::StrCat(
                    "step ", step_, ": ", phase_ == Phase::kPreparing ? "Prepare" : "Commit", " took more than ",
                    absl::FormatDuration(options_.step_timeout), "; no answer from shard ", silent)),
                /*permanent=*/false);
  }
  Actions actions;
  for (int shard = 0; shard < options_.shard_count; ++shard) {
    if (now < shards_[shard].retry_at) continue;
    shards_[shard].retry_at = absl::InfiniteFuture();
    actions.push_back(Send(shard));
  }
  return actions;
}

absl::Time StepLeader::NextTick() const {
  if (phase_ != Phase::kPreparing && phase_ != Phase::kCommitting) return absl::InfiniteFuture();
  absl::Time next = fail_at_;
  for (const Shard& shard : shards_) next = std::min(next, shard.retry_at);
  return next;
}

}  // namespace penstock
