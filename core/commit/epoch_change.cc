#include "core/commit/epoch_change.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/decision.h"

namespace penstock {

EpochChange::EpochChange(Options options) : options_(std::move(options)), shards_(options_.shards.size()) {
  PENSTOCK_CHECK(!shards_.empty());
  PENSTOCK_CHECK(options_.incarnations.empty() || options_.incarnations.size() == shards_.size());
}

std::string EpochChange::Name(int shard) const { return options_.shards[shard]; }

bool EpochChange::AllAnswered() const {
  return std::all_of(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.answered; });
}

EpochChange::Action EpochChange::Send(int shard) const {
  if (phase_ == Phase::kSealing) return SendSeal{shard};
  return SendDecide{shard, outcome_.open_step, outcome_.commit};
}

EpochChange::Actions EpochChange::Start(absl::Time) {
  PENSTOCK_CHECK(phase_ == Phase::kNotStarted);
  phase_ = Phase::kSealing;
  Actions actions;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    shards_[shard].backoff = Backoff(options_.backoff);
    actions.push_back(Send(static_cast<int>(shard)));
  }
  return actions;
}

EpochChange::Actions EpochChange::End(Action action) {
  phase_ = Phase::kEnded;
  return {std::move(action)};
}

EpochChange::Actions EpochChange::OnError(int shard, const absl::Status& status, absl::Time now) {
  if (IsTransient(status)) {
    shards_[shard].last_error = status;
    shards_[shard].retry_at = now + shards_[shard].backoff.Next();
    return {};
  }
  if (absl::IsNotFound(status)) {
    return End(RestoreNeeded{absl::StrCat(Name(shard), " doesn't hold the job any more: ", status.message())});
  }
  return End(ChangeFailed{
      absl::Status(status.code(), absl::StrCat(Name(shard), " answered ", phase_ == Phase::kSealing ? "Seal" : "Decide",
                                               " of epoch ", options_.epoch, " with: ", status.message()))});
}

EpochChange::Actions EpochChange::OnSealReply(int shard, const absl::StatusOr<v1::SealResponse>& reply,
                                              absl::Time now) {
  if (phase_ != Phase::kSealing || shards_[shard].answered) return {};
  if (!reply.ok()) return OnError(shard, reply.status(), now);
  shards_[shard].answered = true;
  shards_[shard].retry_at = absl::InfiniteFuture();
  shards_[shard].report = *reply;
  if (!AllAnswered()) return {};
  return StartDeciding();
}

std::optional<std::string> EpochChange::FindLostState() const {
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    const v1::SealResponse& report = shards_[shard].report;
    if (report.open_epoch() != options_.open_epoch) {
      return absl::StrCat(Name(shard), " holds a state that was opened under epoch ", report.open_epoch(),
                          "; the job's was opened under epoch ", options_.open_epoch);
    }
    const uint64_t expected = options_.incarnations.empty() ? 0 : options_.incarnations[shard];
    if (expected != 0 && report.incarnation() != expected) {
      return absl::StrCat(Name(shard), " is a new process, so it has lost what it held");
    }
  }
  return std::nullopt;
}

EpochChange::Actions EpochChange::StartDeciding() {
  if (std::optional<std::string> lost = FindLostState(); lost.has_value()) return End(RestoreNeeded{*std::move(lost)});
  absl::StatusOr<Outcome> outcome = Conclude();
  if (!outcome.ok()) return End(ChangeFailed{outcome.status()});
  outcome_ = *std::move(outcome);  // E1, E2: made once, after all have reported
  phase_ = Phase::kDeciding;
  Actions actions;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    shards_[shard].backoff.Reset();
    shards_[shard].last_error = absl::OkStatus();
    shards_[shard].answered = !outcome_.tell[shard];
    if (outcome_.tell[shard]) actions.push_back(Send(static_cast<int>(shard)));
  }
  if (actions.empty()) return EndReady();
  return actions;
}

absl::StatusOr<EpochChange::Outcome> EpochChange::Conclude() const {
  size_t lowest = 0, highest = 0;
  for (size_t shard = 1; shard < shards_.size(); ++shard) {
    const uint64_t committed = shards_[shard].report.committed_step();
    if (committed < shards_[lowest].report.committed_step()) lowest = shard;
    if (committed > shards_[highest].report.committed_step()) highest = shard;
  }
  const uint64_t low = shards_[lowest].report.committed_step(), high = shards_[highest].report.committed_step();
  if (high - low > 1) {
    return absl::InternalError(absl::StrCat(Name(lowest), " has committed step ", low, " and ", Name(highest), " step ",
                                            high, "; they can't be more than one apart"));
  }
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    const v1::SealResponse& report = shards_[shard].report;
    if (report.has_prepared() && report.prepared().step() != report.committed_step() + 1) {
      return absl::InternalError(absl::StrCat(Name(shard), " has committed step ", report.committed_step(),
                                              " and prepared step ", report.prepared().step()));
    }
  }
  return high == low ? ConcludePrepared(low) : ConcludeCommitted(high);
}

absl::StatusOr<EpochChange::Outcome> EpochChange::ConcludeCommitted(uint64_t highest) const {
  Outcome outcome;
  outcome.start_step = outcome.open_step = highest;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    const v1::SealResponse& report = shards_[shard].report;
    outcome.tell.push_back(report.committed_step() != highest);
    if (report.committed_step() != highest) continue;
    if (!report.has_last_decision() || report.last_decision().step() != highest) {
      return absl::InternalError(
          absl::StrCat(Name(shard), " has committed step ", highest, " but holds no decision of it"));
    }
    // The commit of the next step begins when every shard has committed this one, so nobody can have got so far.
    if (report.has_prepared()) {
      return absl::InternalError(absl::StrCat(Name(shard), " has prepared step ", highest + 1, " before step ", highest,
                                              " was committed everywhere"));
    }
    if (outcome.commit.has_value() && !SameDecision(*outcome.commit, report.last_decision())) {
      return absl::InternalError(
          absl::StrCat("the shards committed step ", highest, " with different decisions (", Name(shard), ")"));
    }
    outcome.commit = report.last_decision();
  }
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    if (!outcome.tell[shard]) continue;
    const v1::SealResponse& report = shards_[shard].report;
    if (!report.has_prepared() || !SameInputs(report.prepared().inputs(), outcome.commit->inputs())) {
      return absl::InternalError(
          absl::StrCat("step ", highest, " is committed, but ", Name(shard), " has ",
                       report.has_prepared() ? "prepared it with other inputs" : "not prepared it"));
    }
  }
  return outcome;
}

absl::StatusOr<EpochChange::Outcome> EpochChange::ConcludePrepared(uint64_t committed) const {
  Outcome outcome;
  outcome.start_step = committed;
  outcome.open_step = committed + 1;
  std::vector<v1::PreparedStep> prepared;
  for (const Shard& shard : shards_) {
    outcome.tell.push_back(shard.report.has_prepared());
    if (shard.report.has_prepared()) prepared.push_back(shard.report.prepared());
  }
  if (prepared.size() != shards_.size()) return outcome;  // discard
  absl::StatusOr<v1::StepDecision> decision = Decide(options_.optimizer, options_.total_steps, prepared);
  // A step that can't be committed (a norm that isn't finite) is discarded; it fails again in the new epoch, where its
  // leader says so.
  if (absl::IsFailedPrecondition(decision.status())) return outcome;
  if (!decision.ok()) return absl::InternalError(decision.status().message());
  outcome.commit = *std::move(decision);
  outcome.start_step = outcome.open_step;
  return outcome;
}

EpochChange::Actions EpochChange::OnDecideReply(int shard, const absl::StatusOr<v1::DecideResponse>& reply,
                                                absl::Time now) {
  if (phase_ != Phase::kDeciding || shards_[shard].answered) return {};
  if (!reply.ok()) return OnError(shard, reply.status(), now);
  if (reply->committed_step() != outcome_.start_step) {  // E3
    return End(ChangeFailed{
        absl::InternalError(absl::StrCat(Name(shard), " is at step ", reply->committed_step(),
                                         " after the decision that leads to step ", outcome_.start_step))});
  }
  shards_[shard].answered = true;
  shards_[shard].retry_at = absl::InfiniteFuture();
  if (!AllAnswered()) return {};
  return EndReady();
}

EpochChange::Actions EpochChange::EndReady() {
  Ready ready;
  ready.start_step = outcome_.start_step;
  ready.completed = outcome_.commit;
  for (const Shard& shard : shards_) ready.incarnations.push_back(shard.report.incarnation());
  return End(std::move(ready));
}

EpochChange::Actions EpochChange::OnTick(absl::Time now) {
  Actions actions;
  if (phase_ != Phase::kSealing && phase_ != Phase::kDeciding) return actions;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    if (now < shards_[shard].retry_at) continue;
    shards_[shard].retry_at = absl::InfiniteFuture();
    actions.push_back(Send(static_cast<int>(shard)));
  }
  return actions;
}

absl::Time EpochChange::NextTick() const {
  absl::Time next = absl::InfiniteFuture();
  if (phase_ == Phase::kEnded) return next;
  for (const Shard& shard : shards_) next = std::min(next, shard.retry_at);
  return next;
}

std::string EpochChange::WaitingFor() const {
  std::string text;
  if (phase_ != Phase::kSealing && phase_ != Phase::kDeciding) return text;
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    if (shards_[shard].answered) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", Name(shard));
    if (!shards_[shard].last_error.ok()) absl::StrAppend(&text, " (", shards_[shard].last_error.ToString(), ")");
  }
  return text;
}

}  // namespace penstock
