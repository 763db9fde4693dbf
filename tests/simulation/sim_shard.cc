#include "tests/simulation/sim_shard.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/commit/decision.h"
#include "core/plan/job_facts.h"

namespace penstock::simulation {
namespace {

// As the service: a call that waits ends some time, and the caller asks again.
constexpr absl::Duration kWaitMax = absl::Seconds(3);
constexpr size_t kSnapshotsMax = 2;

absl::Status NotOpen() { return absl::NotFoundError("the job isn't open on this shard"); }

}  // namespace

SimShard::SimShard(World& world, int index) : world_(world), index_(index) {
  node_.name = absl::StrCat("params-", index);
  incarnation_ = world_.NextIncarnation();
}

void SimShard::Crash() {
  const View before = Look();
  world_.network().Crash(node_);
  job_.reset();
  waiters_.clear();
  wake_scheduled_ = false;
  Check("crash", before.sealed, before, PreparedChecker::Cause::kGone);
}

void SimShard::Restart() {
  incarnation_ = world_.NextIncarnation();
  world_.network().Restart(node_);
}

// --- Checks. ---

SimShard::View SimShard::Look() const {
  View view;
  if (!job_.has_value()) return view;
  const v1::SealResponse report = job_->step->Report();
  view.open = true;
  view.lineage = job_->step->open_epoch();
  view.sealed = job_->step->sealed_epoch();
  view.committed = job_->step->committed_step();
  view.report = report.SerializeAsString();
  if (report.has_prepared()) view.prepared = report.prepared().step();
  view.state = job_->state;
  return view;
}

void SimShard::Check(const char* message, uint64_t epoch, const View& before, PreparedChecker::Cause cause,
                     bool wrote) {
  const View after = Look();
  if (before.open && epoch < before.sealed) world_.Saw(absl::StrCat("a fenced ", message));
  const bool changed = wrote || before.open != after.open || before.sealed != after.sealed ||
                       before.report != after.report || !(before.state == after.state);
  if (before.open) world_.fence_checker().OnEvent(index_, message, epoch, before.sealed, changed);
  world_.prepared_checker().OnEvent(index_, after.lineage, after.sealed, after.committed, after.prepared, cause, epoch);
}

// --- Waiting and working. ---

void SimShard::Serve(std::function<bool()> attempt) {
  if (!attempt()) waiters_.push_back({world_.now() + kWaitMax, std::move(attempt)});
}

void SimShard::Wake() {
  if (wake_scheduled_) return;
  wake_scheduled_ = true;
  world_.network().After(node_, absl::ZeroDuration(), [this] {
    wake_scheduled_ = false;
    std::vector<Waiter> waiters;
    waiters.swap(waiters_);
    for (Waiter& waiter : waiters) {
      if (waiter.until < world_.now() || waiter.attempt()) continue;
      waiters_.push_back(std::move(waiter));
    }
  });
}

void SimShard::Work(std::function<void()> work) {
  const absl::Duration time = world_.random().Between(absl::Microseconds(100), world_.work_time_max());
  world_.network().After(node_, time, [this, opening = job_->opening, work = std::move(work)] {
    if (job_.has_value() && job_->opening == opening) work();
  });
}

uint64_t SimShard::Believe(uint64_t epoch) const {
  if (world_.Mutated(Mutation::kShardForgetsFence)) return std::max(epoch, job_->step->sealed_epoch());
  return epoch;
}

// --- Opening and closing. ---

void SimShard::Open(uint64_t epoch, uint64_t step, const State& state, Answer<uint64_t> answer) {
  Serve([this, epoch, step, state, answer] {
    const auto verdict = CheckOpen(job_.has_value() ? job_->step.get() : nullptr, epoch);
    if (!verdict.ok()) {
      answer(verdict.status());
      return true;
    }
    if (*verdict == OpenVerdict::kAlreadyOpen) {
      answer(job_->step->committed_step());
      return true;
    }
    if (job_.has_value() && job_->step->busy()) return false;
    const View before = Look();
    Job& job = job_.emplace();
    job.range = ShardRange(index_, static_cast<int>(world_.shards().size()));
    job.step = std::make_unique<ShardStep>(ShardStep::Options{.range_begin = job.range.begin,
                                                              .range_end = job.range.end,
                                                              .piece_elements = kPieceElements,
                                                              .open_epoch = epoch,
                                                              .committed_step = step,
                                                              .incarnation = incarnation_,
                                                              .published = world_.published()});
    job.state = state;
    job.gradient.resize(static_cast<size_t>(job.range.size()));
    job.opening = ++openings_;
    Check("Open", epoch, before, PreparedChecker::Cause::kGone);
    world_.Trace(name(), absl::StrCat("opened under epoch ", epoch, " at step ", step));
    world_.history_checker().OnOpened(index_, epoch, step);
    world_.version_checker().OnState(name(), step, job.range, job.state);
    answer(step);
    Wake();
    return true;
  });
}

void SimShard::Close(uint64_t epoch, Answer<Empty> answer) {
  Serve([this, epoch, answer] {
    const absl::Status status = CheckClose(job_.has_value() ? job_->step.get() : nullptr, epoch);
    if (status.ok() && job_.has_value() && job_->step->busy()) return false;
    const View before = Look();
    if (status.ok()) job_.reset();
    Check("Close", epoch, before, status.ok() ? PreparedChecker::Cause::kGone : PreparedChecker::Cause::kOther);
    if (status.ok()) {
      answer(Empty{});
    } else {
      answer(status);
    }
    Wake();
    return true;
  });
}

// --- Gradients and weights. ---

void SimShard::Push(uint64_t epoch, uint64_t step, ElementRange range, int kind, const std::vector<double>& numbers,
                    Answer<Empty> answer) {
  if (!job_.has_value()) return answer(NotOpen());
  const View before = Look();
  const auto plan = job_->step->OnChunk(Believe(epoch), step, range.begin, range.end, kind);
  Check("Push", epoch, before, PreparedChecker::Cause::kOther, plan.ok() && !plan->to_write.empty());
  if (!plan.ok()) return answer(plan.status());
  if (plan->to_write.empty()) return answer(Empty{});
  Work([this, plan = *plan, range, numbers, answer] {
    Write(plan, range, numbers);
    answer(Empty{});
  });
}

void SimShard::Write(const ShardStep::ChunkPlan& plan, ElementRange range, const std::vector<double>& numbers) {
  std::vector<double>& to = plan.kind == 0 ? job_->gradient : job_->state.of_kind(plan.kind);
  for (const ElementRange& part : plan.to_write) {
    std::copy(numbers.begin() + (part.begin - range.begin), numbers.begin() + (part.end - range.begin),
              to.begin() + (part.begin - job_->range.begin));
  }
  for (const ShardStep::WholePiece& piece : job_->step->OnChunkWritten(plan)) {
    Work([this, piece] { Sum(piece); });
  }
  Wake();
}

void SimShard::Sum(const ShardStep::WholePiece& piece) {
  const auto begin = job_->gradient.begin() - job_->range.begin;
  job_->step->OnPieceSum(piece, SquareSum({begin + piece.range.begin, begin + piece.range.end}));
  Wake();
}

void SimShard::Pull(uint64_t epoch, uint64_t version, ElementRange range, int kind,
                    Answer<std::vector<double>> answer) {
  Serve([this, epoch, version, range, kind, answer] {
    if (!job_.has_value()) {
      answer(NotOpen());
      return true;
    }
    auto verdict = job_->step->CheckPull(Believe(epoch), version);
    if (world_.Mutated(Mutation::kShardServesAnyVersion)) verdict = ShardStep::Verdict::kDone;
    if (verdict.ok() && *verdict == ShardStep::Verdict::kWait) return false;
    if (!verdict.ok()) {
      answer(verdict.status());
      return true;
    }
    const auto begin = job_->state.of_kind(kind).begin() - job_->range.begin;
    answer(std::vector<double>(begin + range.begin, begin + range.end));
    return true;
  });
}

// --- Prepare, commit, decide. ---

void SimShard::Prepare(uint64_t epoch, uint64_t step, const v1::StepInputs& inputs, Answer<v1::PreparedStep> answer) {
  Serve([this, epoch, step, inputs, answer] {
    if (!job_.has_value()) {
      answer(NotOpen());
      return true;
    }
    const View before = Look();
    const auto verdict = job_->step->OnPrepare(Believe(epoch), step, inputs);
    Check("Prepare", epoch, before, PreparedChecker::Cause::kOther);
    if (verdict.ok() && *verdict == ShardStep::Verdict::kWait) return false;
    if (!verdict.ok()) {
      answer(verdict.status());
      return true;
    }
    world_.AtPoint();
    answer(job_->step->prepared(step));
    if (world_.Mutated(Mutation::kShardDropsPrepared)) MaybeDropPrepared(step);
    return true;
  });
}

// For the mutations: a step that has forgotten all but what is committed and sealed.
void SimShard::ForgetOpenStep() {
  const uint64_t sealed = job_->step->sealed_epoch();
  job_->step = std::make_unique<ShardStep>(ShardStep::Options{.range_begin = job_->range.begin,
                                                              .range_end = job_->range.end,
                                                              .piece_elements = kPieceElements,
                                                              .open_epoch = job_->step->open_epoch(),
                                                              .committed_step = job_->step->committed_step(),
                                                              .incarnation = incarnation_,
                                                              .published = world_.published()});
  (void)job_->step->OnSeal(sealed);
}

// The mutation: what a time-out that discards would do.
void SimShard::MaybeDropPrepared(uint64_t step) {
  world_.network().After(node_, absl::Milliseconds(300), [this, step] {
    const View before = Look();
    if (before.prepared != step || job_->step->busy()) return;
    ForgetOpenStep();
    Check("nothing", before.sealed, before, PreparedChecker::Cause::kOther);
  });
}

void SimShard::Commit(uint64_t epoch, const v1::StepDecision& decision, const std::vector<v1::StepRecord>& records,
                      Answer<uint64_t> answer) {
  Serve([this, epoch, decision, records, answer] {
    if (!job_.has_value()) {
      answer(NotOpen());
      return true;
    }
    const View before = Look();
    const auto verdict = job_->step->OnCommit(Believe(epoch), decision);
    Check("Commit", epoch, before, PreparedChecker::Cause::kOther,
          verdict.ok() && *verdict == ShardStep::Verdict::kApply);
    if (!verdict.ok()) {
      answer(verdict.status());
      return true;
    }
    if (*verdict == ShardStep::Verdict::kApply) {
      job_->records.insert(job_->records.end(), records.begin(), records.end());
      StartUpdate();
    }
    if (*verdict != ShardStep::Verdict::kDone) return false;
    if (world_.Mutated(Mutation::kShardAppliesTwice) && world_.random().Chance(0.05)) {
      for (size_t e = 0; e < job_->gradient.size(); ++e) {
        Update(decision, job_->gradient[e], job_->state, e);
      }
    }
    answer(job_->step->committed_step());
    return true;
  });
}

// In two halves with time between them, so that a read that isn't kept away sees a torn version.
void SimShard::StartUpdate() {
  world_.AtPoint();
  // What was published is in place.
  if (world_.published()) return Work([this] { FinishUpdate(); });
  const auto half = [this](size_t begin, size_t end) {
    for (size_t e = begin; e < end; ++e) {
      Update(job_->step->apply_decision(), job_->gradient[e], job_->state, e);
    }
  };
  const size_t size = job_->gradient.size();
  Work([this, half, size] {
    half(0, size / 2);
    Work([this, half, size] {
      half(size / 2, size);
      FinishUpdate();
    });
  });
}

void SimShard::FinishUpdate() {
  const View before = Look();
  const v1::StepDecision decision = job_->step->apply_decision();
  const uint64_t lineage = job_->step->open_epoch(), step = decision.step();
  world_.prepared_checker().OnApplied(index_, lineage, step);
  job_->step->OnApplied();
  Check("the update", before.sealed, before, PreparedChecker::Cause::kOther);
  world_.history_checker().OnApplied(index_, lineage, decision);
  world_.version_checker().OnState(name(), step, job_->range, job_->state);
  job_->records.push_back(MakeRecord(decision, job_->step->last_decision_epoch()));
  if (IsCheckpointStep(world_.spec(), step)) {
    job_->snapshots[step] = job_->state;
    if (job_->snapshots.size() > kSnapshotsMax) job_->snapshots.erase(job_->snapshots.begin());
  }
  if (world_.published()) world_.Saw("a published version");
  world_.Trace(name(), absl::StrCat("committed step ", step));
  Wake();
}

void SimShard::Seal(uint64_t epoch, Answer<v1::SealResponse> answer) {
  Serve([this, epoch, answer] {
    if (!job_.has_value()) {
      answer(NotOpen());
      return true;
    }
    const View before = Look();
    auto verdict = job_->step->OnSeal(epoch);
    Check("Seal", epoch, before, PreparedChecker::Cause::kOther);
    if (before.sealed != job_->step->sealed_epoch()) {
      world_.Trace(name(), absl::StrCat("sealed epoch ", epoch));
      Wake();
    }
    if (verdict.ok() && *verdict == ShardStep::Verdict::kWait) {
      world_.Saw(job_->step->applying() ? "a seal during an update" : "a seal during a write");
      return false;
    }
    if (!verdict.ok() && verdict.status().code() == absl::StatusCode::kNotFound && !job_->step->intact()) {
      world_.Saw("a published state that came only in part");
      if (world_.Mutated(Mutation::kShardHidesATornState)) {
        ForgetOpenStep();
        verdict = ShardStep::Verdict::kDone;
      }
    }
    if (verdict.ok()) {
      world_.AtPoint();
      answer(job_->step->Report());
    } else {
      answer(verdict.status());
    }
    return true;
  });
}

void SimShard::Decide(uint64_t epoch, uint64_t step, const std::optional<v1::StepDecision>& decision,
                      Answer<v1::DecideResponse> answer) {
  Serve([this, epoch, step, decision, answer] {
    if (!job_.has_value()) {
      answer(NotOpen());
      return true;
    }
    const View before = Look();
    const auto verdict = job_->step->OnDecide(epoch, step, decision);
    Check("Decide", epoch, before, PreparedChecker::Cause::kDecide);
    if (!verdict.ok()) {
      answer(verdict.status());
      return true;
    }
    if (*verdict == ShardStep::Verdict::kApply) StartUpdate();
    if (*verdict != ShardStep::Verdict::kDone) return false;
    Wake();
    v1::DecideResponse response;
    response.set_committed_step(job_->step->committed_step());
    answer(response);
    return true;
  });
}

// --- Checkpoints and history. ---

void SimShard::WriteCheckpoint(uint64_t step, Answer<State> answer) {
  if (!job_.has_value()) return answer(NotOpen());
  const auto found = job_->snapshots.find(step);
  if (found == job_->snapshots.end()) {
    return answer(absl::NotFoundError(absl::StrCat("no snapshot of step ", step, " is held")));
  }
  world_.version_checker().OnState(absl::StrCat(name(), "'s snapshot"), step, job_->range, found->second);
  answer(found->second);
}

void SimShard::GetSteps(uint64_t from_step, Answer<v1::GetStepsResponse> answer) {
  if (!job_.has_value()) return answer(NotOpen());
  v1::GetStepsResponse response;
  for (const v1::StepRecord& record : job_->records) {
    if (record.step() >= from_step) *response.add_records() = record;
  }
  response.set_committed_step(job_->step->committed_step());
  answer(response);
}

}  // namespace penstock::simulation
