#include "tests/simulation/sim_rank.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/plan/job_facts.h"
#include "tests/simulation/sim_shard.h"

namespace penstock::simulation {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(3);
constexpr absl::Duration kRetryDelay = absl::Milliseconds(50);
constexpr absl::Duration kPeerTimeout = absl::Seconds(4);
constexpr absl::Duration kStepTimeout = absl::Seconds(20);

}  // namespace

SimRank::SimRank(World& world, SimWorker& worker, SimAssignment assignment)
    : world_(world),
      worker_(worker),
      assignment_(std::move(assignment)),
      owned_(OwnedRange(assignment_.rank, world.ranks())),
      leader_machine_({.shard_count = static_cast<int>(world.shards().size()),
                       .epoch = assignment_.epoch,
                       .optimizer = world.spec().optimizer(),
                       .total_steps = world.steps(),
                       .backoff = {},
                       .published = world.published(),
                       .step_timeout = kStepTimeout}) {}

void SimRank::After(absl::Duration delay, std::function<void()> run) {
  world_.network().After(worker_.node(), delay, [self = shared_from_this(), run = std::move(run)] {
    if (!self->active()) return;
    if (self->worker_.hangs()) {
      self->After(kRetryDelay, run);
    } else {
      run();
    }
  });
}

void SimRank::Start() {
  world_.Trace(worker_.name(),
               absl::StrCat("rank ", rank(), " of epoch ", epoch(), " from step ", assignment_.start_step));
  Exchange(0, [this] { PullAll(assignment_.start_step); });
}

void SimRank::Fail(const absl::Status& status, bool permanent) {
  if (!active()) return;
  failed_ = true;
  world_.Trace(worker_.name(), absl::StrCat("rank ", rank(), " failed: ", status.ToString()));
  failure_.set_epoch(epoch());
  failure_.mutable_failed()->set_rank(static_cast<uint32_t>(rank()));
  failure_.mutable_failed()->set_code(static_cast<int>(status.code()));
  failure_.mutable_failed()->set_message(std::string(status.message()));
  failure_.mutable_failed()->set_permanent(permanent);
  worker_.Report(failure_);
}

void SimRank::RepeatReports() {
  v1::MemberReport report;
  report.set_epoch(epoch());
  if (ready_) {
    report.mutable_ready()->set_rank(static_cast<uint32_t>(rank()));
    worker_.Report(report);
  }
  if (failed_) worker_.Report(failure_);
  if (finished_) {
    report.mutable_finished();
    worker_.Report(report);
  }
}

// --- Peers. ---

void SimRank::Exchange(uint64_t exchange, std::function<void()> done) {
  exchange_ = exchange;
  exchange_done_ = std::move(done);
  told_.clear();
  heard_.erase(heard_.begin(), heard_.lower_bound(exchange));
  for (int peer = 0; peer < world_.ranks(); ++peer) {
    if (peer != rank()) TellPeer(peer, exchange);
  }
  After(kPeerTimeout, [this, exchange] {
    if (exchange_ == exchange && exchange_done_ != nullptr) {
      Fail(absl::DeadlineExceededError(absl::StrCat("a peer didn't come to exchange ", exchange)), false);
    }
  });
  CheckExchange();
}

void SimRank::TellPeer(int peer, uint64_t exchange) {
  SimWorker& to = *world_.workers()[assignment_.peers[peer]];
  world_.network().Call<SimShard::Empty>(
      worker_.node(), to.node(), kCallTimeout,
      [&to, epoch = epoch(), from = rank(), exchange](Network::Answer<SimShard::Empty> answer) {
        const absl::Status status = to.OnPeer(epoch, from, exchange);
        if (status.ok()) {
          answer(SimShard::Empty{});
        } else {
          answer(status);
        }
      },
      [self = shared_from_this(), peer, exchange](absl::StatusOr<SimShard::Empty> answer) {
        if (!self->active() || self->exchange_ != exchange) return;
        if (answer.ok()) {
          self->told_.insert(peer);
          self->CheckExchange();
        } else if (IsTransient(answer.status())) {
          self->After(kRetryDelay, [self, peer, exchange] {
            if (self->exchange_ == exchange) self->TellPeer(peer, exchange);
          });
        } else {
          self->Fail(answer.status(), false);
        }
      });
}

absl::Status SimRank::OnPeer(int from_rank, uint64_t exchange) {
  if (!active()) return absl::FailedPreconditionError("the rank has failed");
  heard_[exchange].insert(from_rank);
  CheckExchange();
  return absl::OkStatus();
}

void SimRank::CheckExchange() {
  const size_t peers = static_cast<size_t>(world_.ranks() - 1);
  if (exchange_done_ == nullptr || told_.size() < peers || heard_[exchange_].size() < peers) return;
  std::exchange(exchange_done_, nullptr)();
}

// --- A step. ---

void SimRank::BeginStep() {
  if (version_ >= world_.steps()) {
    exchange_ = version_ + 1;  // nothing follows
    if (leader()) After(world_.random().Between(absl::Milliseconds(10), absl::Milliseconds(200)), [this] { Finish(); });
    return;
  }
  const uint64_t step = version_ + 1;
  Exchange(step, [this, step] {
    After(world_.random().Between(absl::Milliseconds(5), world_.compute_time_max()), [this, step] {
      if (world_.published()) UpdateOwn(step);
      if (world_.published() && !IsDigestStep(world_.spec(), step)) return OnVersion(step);
      PushAll();
      if (leader()) Lead();
      PullAll(step);
    });
  });
  After(kStepTimeout, [this, step] {
    if (version_ < step) Fail(absl::DeadlineExceededError(absl::StrCat("step ", step, " doesn't end")), false);
  });
}

// The decision is what all ranks together make of their gradients: the undisturbed run's.
void SimRank::UpdateOwn(uint64_t step) {
  const v1::StepDecision& decision = world_.reference().decision(step);
  next_state_ = state_;
  for (int64_t e = owned_.begin; e < owned_.end; ++e) {
    const size_t at = static_cast<size_t>(e - owned_.begin);
    Update(decision, Gradient(step, e, state_.weights[at]), next_state_, at);
  }
  if (!leader() || IsDigestStep(world_.spec(), step)) return;
  unpublished_.push_back(MakeRecord(decision, epoch()));
  v1::MemberReport report;
  report.set_epoch(epoch());
  *report.mutable_step() = unpublished_.back();
  worker_.Report(std::move(report));
}

void SimRank::PushAll() {
  const uint64_t step = version_ + 1;
  const int shards = static_cast<int>(world_.shards().size());
  std::vector<double> gradient;
  for (int64_t e = owned_.begin; e < owned_.end; ++e) {
    gradient.push_back(Gradient(step, e, state_.weights[static_cast<size_t>(e - owned_.begin)]));
  }
  for (int shard = 0; shard < shards; ++shard) {
    const ElementRange range = Intersect(owned_, ShardRange(shard, shards));
    if (!world_.published()) {
      PushRange(shard, range, 0, gradient);
      continue;
    }
    for (int kind = 1; kind <= ShardStep::kStateKinds; ++kind) PushRange(shard, range, kind, next_state_.of_kind(kind));
  }
}

// `numbers`: of all that is owned.
void SimRank::PushRange(int shard, const ElementRange& range, int kind, const std::vector<double>& numbers) {
  const auto begin = numbers.begin() - owned_.begin;
  for (int64_t at = range.begin; at < range.end;) {
    const int64_t end = std::min(range.end, at + 1 + world_.random().Below(5));
    PushChunk(shard, {at, end}, kind, {begin + at, begin + end});
    at = end;
  }
}

void SimRank::PushChunk(int shard, ElementRange chunk, int kind, std::vector<double> numbers) {
  SimShard& to = *world_.shards()[shard];
  const uint64_t step = version_ + 1;
  world_.network().Call<SimShard::Empty>(
      worker_.node(), to.node(), kCallTimeout,
      [&to, epoch = epoch(), step, chunk, kind, numbers](auto answer) {
        to.Push(epoch, step, chunk, kind, numbers, answer);
      },
      [self = shared_from_this(), shard, chunk, kind, numbers, step](absl::StatusOr<SimShard::Empty> answer) {
        if (!self->active()) return;
        if (answer.ok()) return;
        if (IsTransient(answer.status())) {
          self->After(kRetryDelay, [self, shard, chunk, kind, numbers, step] {
            // A pull of the step proves that the chunk is in, whatever became of its answer.
            if (self->version_ + 1 == step) self->PushChunk(shard, chunk, kind, numbers);
          });
        } else {
          self->Fail(answer.status(), false);
        }
      });
}

void SimRank::PullAll(uint64_t version) {
  const int shards = static_cast<int>(world_.shards().size());
  const int kinds = world_.published() ? ShardStep::kStateKinds : 1;
  for (int kind = 1; kind <= kinds; ++kind) {
    next_state_.of_kind(kind).assign(static_cast<size_t>(owned_.size()), 0.0);
  }
  pulls_missing_ = 0;
  for (int shard = 0; shard < shards; ++shard) {
    if (!Intersect(owned_, ShardRange(shard, shards)).empty()) pulls_missing_ += kinds;
  }
  for (int shard = 0; shard < shards; ++shard) {
    const ElementRange range = Intersect(owned_, ShardRange(shard, shards));
    for (int kind = 1; kind <= kinds && !range.empty(); ++kind) PullFrom(shard, version, range, kind);
  }
}

void SimRank::PullFrom(int shard, uint64_t version, ElementRange range, int kind) {
  SimShard& from = *world_.shards()[shard];
  world_.network().Call<std::vector<double>>(
      worker_.node(), from.node(), kCallTimeout,
      [&from, epoch = epoch(), version, range, kind](auto answer) { from.Pull(epoch, version, range, kind, answer); },
      [self = shared_from_this(), shard, version, range, kind](absl::StatusOr<std::vector<double>> answer) {
        if (!self->active()) return;
        if (answer.ok()) {
          self->world_.version_checker().OnPulled(self->worker_.name(), version, range, kind, *answer);
          std::copy(answer->begin(), answer->end(),
                    self->next_state_.of_kind(kind).begin() + (range.begin - self->owned_.begin));
          if (--self->pulls_missing_ == 0) self->OnVersion(version);
        } else if (IsTransient(answer.status())) {
          self->After(kRetryDelay,
                      [self, shard, version, range, kind] { self->PullFrom(shard, version, range, kind); });
        } else {
          self->Fail(answer.status(), false);
        }
      });
}

void SimRank::OnVersion(uint64_t version) {
  state_ = next_state_;
  version_ = version;
  if (!ready_) {
    ready_ = true;
    v1::MemberReport report;
    report.set_epoch(epoch());
    report.mutable_ready()->set_rank(static_cast<uint32_t>(rank()));
    worker_.Report(std::move(report));
    BeginStep();
    return;
  }
  MaybeNextStep();
}

void SimRank::MaybeNextStep() {
  // The leader goes on when its shards have all said that they committed.
  if (ready_ && pulls_missing_ == 0 && version_ == exchange_ && leader_machine_.idle() && exchange_done_ == nullptr) {
    BeginStep();
  }
}

// --- The leader. ---

void SimRank::Lead() {
  ++worker_.steps_led;
  const uint64_t step = leading_step_ = version_ + 1;
  v1::StepInputs inputs = InputsOf(step, state_.weights);
  if (world_.Mutated(Mutation::kLeaderCountsItsOwnSteps)) inputs = InputsOf(worker_.steps_led, state_.weights);
  std::optional<v1::StepDecision> known;
  if (world_.published()) known = world_.reference().decision(step);
  world_.AtPoint();
  Execute(leader_machine_.Start(step, inputs, world_.now(), known));
  TickLeader();
}

void SimRank::TickLeader() {
  After(absl::Milliseconds(50), [this] {
    if (leader_machine_.idle()) return;
    Execute(leader_machine_.OnTick(world_.now()));
    TickLeader();
  });
}

void SimRank::Execute(const StepLeader::Actions& actions) {
  for (const StepLeader::Action& action : actions) {
    if (const auto* prepare = std::get_if<StepLeader::SendPrepare>(&action)) SendPrepare(*prepare);
    if (const auto* commit = std::get_if<StepLeader::SendCommit>(&action)) SendCommit(*commit);
    if (const auto* failed = std::get_if<StepLeader::StepFailed>(&action)) Fail(failed->status, failed->permanent);
    if (const auto* done = std::get_if<StepLeader::StepDone>(&action)) {
      v1::MemberReport report;
      report.set_epoch(epoch());
      *report.mutable_step() = MakeRecord(done->decision, epoch());
      worker_.Report(std::move(report));
      unpublished_.clear();
      MaybeNextStep();
    }
  }
}

void SimRank::SendPrepare(const StepLeader::SendPrepare& prepare) {
  SimShard& to = *world_.shards()[prepare.shard];
  world_.network().Call<v1::PreparedStep>(
      worker_.node(), to.node(), kCallTimeout,
      [&to, epoch = epoch(), prepare](auto answer) { to.Prepare(epoch, prepare.step, prepare.inputs, answer); },
      [self = shared_from_this(), prepare](absl::StatusOr<v1::PreparedStep> answer) {
        if (!self->active() || self->leading_step_ != prepare.step) return;
        self->Execute(self->leader_machine_.OnPrepareReply(prepare.shard, answer, self->world_.now()));
        if (!answer.ok() || !self->world_.Mutated(Mutation::kLeaderCommitsEarly)) return;
        for (int shard = 0; shard < static_cast<int>(self->world_.shards().size()); ++shard) {
          self->Execute(self->leader_machine_.OnPrepareReply(shard, answer, self->world_.now()));
        }
      });
}

void SimRank::SendCommit(const StepLeader::SendCommit& commit) {
  SimShard& to = *world_.shards()[commit.shard];
  world_.network().Call<uint64_t>(
      worker_.node(), to.node(), kCallTimeout,
      [&to, epoch = epoch(), commit, records = unpublished_](auto answer) {
        to.Commit(epoch, commit.decision, records, answer);
      },
      [self = shared_from_this(), commit](absl::StatusOr<uint64_t> answer) {
        if (!self->active() || self->leading_step_ != commit.decision.step()) return;
        self->Execute(self->leader_machine_.OnCommitReply(commit.shard, answer, self->world_.now()));
      });
}

void SimRank::Finish() {
  world_.AtPoint();
  finished_ = true;
  v1::MemberReport report;
  report.set_epoch(epoch());
  report.mutable_finished();
  worker_.Report(std::move(report));
}

}  // namespace penstock::simulation
