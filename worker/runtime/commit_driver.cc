#include "worker/runtime/commit_driver.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "core/base/status_macros.h"
#include "services/base/clock.h"
#include "worker/runtime/rank_error.h"

namespace penstock {

void CommitDriver::Inbox::Post(Event event) {
  std::lock_guard<std::mutex> lock(mutex);
  events.push_back(std::move(event));
  changed.notify_all();
}

CommitDriver::CommitDriver(StepLeader::Options options, StateClient* client)
    : client_(client), inbox_(std::make_shared<Inbox>()), leader_(std::move(options)) {}

void CommitDriver::Abort(const absl::Status& reason) {
  std::lock_guard<std::mutex> lock(inbox_->mutex);
  if (inbox_->aborted.ok()) inbox_->aborted = reason;
  inbox_->changed.notify_all();
}

absl::StatusOr<v1::StepDecision> CommitDriver::Commit(uint64_t step, const v1::StepInputs& inputs,
                                                      const std::optional<v1::StepDecision>& known,
                                                      std::vector<v1::StepRecord> records) {
  records_ = std::move(records);
  std::optional<absl::StatusOr<v1::StepDecision>> outcome =
      Execute(leader_.Start(step, inputs, Clock::Real()->Monotonic(), known));
  while (!outcome.has_value()) {
    PENSTOCK_ASSIGN_OR_RETURN(const std::optional<Event> event, Next());
    outcome = Execute(event.has_value() ? (*event)(leader_) : leader_.OnTick(Clock::Real()->Monotonic()));
  }
  return *std::move(outcome);
}

absl::StatusOr<std::optional<CommitDriver::Event>> CommitDriver::Next() {
  const absl::Duration until_tick = leader_.NextTick() - Clock::Real()->Monotonic();
  // Never zero, never infinite.
  const absl::Duration sleep = std::clamp(until_tick, absl::Milliseconds(1), absl::Minutes(1));
  std::unique_lock<std::mutex> lock(inbox_->mutex);
  const auto ready = [this]()
                         ABSL_NO_THREAD_SAFETY_ANALYSIS { return !inbox_->events.empty() || !inbox_->aborted.ok(); };
  inbox_->changed.wait_for(lock, absl::ToChronoNanoseconds(sleep), ready);
  if (!inbox_->aborted.ok()) return inbox_->aborted;
  if (inbox_->events.empty()) return std::optional<Event>();
  std::optional<Event> event = std::move(inbox_->events.front());
  inbox_->events.pop_front();
  return event;
}

std::optional<absl::StatusOr<v1::StepDecision>> CommitDriver::Execute(const StepLeader::Actions& actions) {
  for (const StepLeader::Action& action : actions) {
    if (const auto* prepare = std::get_if<StepLeader::SendPrepare>(&action)) {
      client_->Prepare(prepare->shard, prepare->step, prepare->inputs,
                       [inbox = inbox_, shard = prepare->shard](absl::StatusOr<v1::PreparedStep> reply) {
                         inbox->Post([shard, reply = std::move(reply)](StepLeader& leader) {
                           return leader.OnPrepareReply(shard, reply, Clock::Real()->Monotonic());
                         });
                       });
    } else if (const auto* commit = std::get_if<StepLeader::SendCommit>(&action)) {
      client_->Commit(commit->shard, commit->decision, records_,
                      [inbox = inbox_, shard = commit->shard](absl::StatusOr<uint64_t> reply) {
                        inbox->Post([shard, reply = std::move(reply)](StepLeader& leader) {
                          return leader.OnCommitReply(shard, reply, Clock::Real()->Monotonic());
                        });
                      });
    } else if (const auto* done = std::get_if<StepLeader::StepDone>(&action)) {
      return done->decision;
    } else if (const auto* failed = std::get_if<StepLeader::StepFailed>(&action)) {
      return failed->permanent ? MarkPermanent(failed->status) : FromService(failed->status);
    }
  }
  return std::nullopt;
}

}  // namespace penstock
