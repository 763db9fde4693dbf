#include "worker/runtime/rank_runner.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/decision.h"
#include "core/plan/job_facts.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "worker/runtime/rank_error.h"
#include "worker/runtime/rank_session.h"

namespace penstock {
namespace {

// Without what `status` carries: it is neither the job's fault nor a peer's, and another worker may do.
absl::Status LostDevice(const absl::Status& device, const absl::Status& status) {
  return absl::UnavailableError(absl::StrCat(device.message(), " (", status.message(),
                                             "): the worker's process ends, as it can't use the device any more"));
}

}  // namespace

RankRunner::RankRunner(Options options)
    : options_(std::move(options)),
      progress_(options_.assignment.job_id(), options_.assignment.epoch()),
      thread_([this] { Main(); }) {}

RankRunner::~RankRunner() {
  Stop("the worker ends");
  thread_.join();
}

void RankRunner::Stop(const std::string& reason) {
  abort_.Abort(absl::CancelledError(absl::StrCat("stopped: ", reason)));
  std::lock_guard<std::mutex> lock(mutex_);
  stop_ = true;
  changed_.notify_all();
}

bool RankRunner::released() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return released_;
}

bool RankRunner::ended() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return ended_;
}

bool RankRunner::WaitEnded(absl::Duration timeout) const {
  return WaitFor(timeout, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ended_; });
}

bool RankRunner::WaitStopped(absl::Duration timeout) {
  return WaitFor(timeout, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stop_; });
}

template <typename Condition>
bool RankRunner::WaitFor(absl::Duration timeout, Condition condition) const {
  std::unique_lock<std::mutex> lock(mutex_);
  if (timeout != absl::InfiniteDuration()) {
    return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), condition);
  }
  changed_.wait(lock, condition);
  return true;
}

v1::RunningRank RankRunner::running() const {
  v1::RunningRank running;
  running.set_job_id(options_.assignment.job_id());
  running.set_epoch(options_.assignment.epoch());
  running.set_rank(options_.assignment.rank());
  return running;
}

void RankRunner::Report(v1::MemberReport report) {
  report.set_job_id(options_.assignment.job_id());
  report.set_epoch(options_.assignment.epoch());
  options_.report(std::move(report));
}

void RankRunner::Main() {
  const char* outcome = "stopped";
  {
    auto session = std::make_unique<Session>();
    absl::Status status = Train(*session);
    const absl::Status device = session->backend == nullptr ? absl::OkStatus() : session->backend->CheckUsable();
    if (!device.ok() && !status.ok() && !IsFenced(status)) status = LostDevice(device, status);
    const bool failed = !status.ok() && abort_.status().ok();
    if (failed) ReportFailure(*session, status);
    // After the report: it ends the process.
    if (!device.ok() && options_.device_lost) options_.device_lost(device);
    if (status.ok()) {
      outcome = "finished";
      session->FreeMemory();
      progress_.Set(options_.assignment.spec().training().steps(), kFinishedActivity);
      WaitStopped(absl::InfiniteDuration());
    } else if (failed) {
      outcome = IsFenced(status) ? "fenced" : "failed";
      if (!IsFenced(status)) WaitStopped(options_.hold_after_failure);
    }
  }
  if (options_.metrics != nullptr) {
    options_.metrics->ClearMemory();
    options_.metrics->RankEnded(outcome);
  }
  LogInfo("job {} epoch {}: rank {} ended ({})", options_.assignment.job_id(), options_.assignment.epoch(),
          options_.assignment.rank(), outcome);
  {
    // Before the report: whoever reads it finds the worker idle.
    std::lock_guard<std::mutex> lock(mutex_);
    released_ = true;
  }
  v1::MemberReport report;
  report.mutable_stopped()->set_rank(options_.assignment.rank());
  Report(std::move(report));
  std::lock_guard<std::mutex> lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void RankRunner::ReportFailure(const Session& session, const absl::Status& status) {
  LogWarning("job {} epoch {}: rank {} failed: {}", options_.assignment.job_id(), options_.assignment.epoch(),
             options_.assignment.rank(), status);
  v1::MemberReport report;
  v1::RankFailed& failed = *report.mutable_failed();
  failed.set_rank(options_.assignment.rank());
  failed.set_code(static_cast<int>(status.code()));
  failed.set_message(std::string(status.message()));
  if (const std::optional<int> peer = PeerOf(status); peer.has_value() && session.plan.has_value()) {
    failed.set_suspect_worker_id(session.plan->NameOf(*peer));
  }
  *failed.mutable_cursor() = progress_.cursor();
  failed.set_permanent(IsPermanent(status));
  Report(std::move(report));
}

absl::Status RankRunner::Train(Session& session) {
  PENSTOCK_RETURN_IF_ERROR(Prepare(session));
  const v1::JobSpec& spec = session.plan->spec();
  const uint64_t start = options_.assignment.start_step();
  // The epoch before may have ended between the commit of its last step and that step's validation.
  if (start > 0 && IsValidationStep(spec, start)) PENSTOCK_RETURN_IF_ERROR(Validate(session, start));
  for (uint64_t step = start + 1; step <= spec.training().steps(); ++step) {
    PENSTOCK_RETURN_IF_ERROR(RunStep(session, step));
    if (IsValidationStep(spec, step)) PENSTOCK_RETURN_IF_ERROR(Validate(session, step));
  }
  if (session.mirror.has_value()) {
    progress_.Set(spec.training().steps(), kMirrorActivity);
    PENSTOCK_RETURN_IF_ERROR(session.mirror->Drain());
  }
  // A device may still be sharing the last weights.
  PENSTOCK_RETURN_IF_ERROR(session.backend->Synchronize({}));
  session.clock.Reset();
  session.clock.Resolve();
  if (options_.metrics != nullptr) options_.metrics->AddTime(session.clock);
  PENSTOCK_RETURN_IF_ERROR(abort_.status());
  if (session.plan->leader()) {
    v1::MemberReport report;
    report.mutable_finished();
    Report(std::move(report));
  }
  return absl::OkStatus();
}

absl::Status RankRunner::RunStep(Session& session, uint64_t step) {
  const RankPlan& plan = *session.plan;
  const absl::Time begin = Clock::Real()->Monotonic();
  session.clock.Reset();
  PENSTOCK_RETURN_IF_ERROR(session.losses->Begin(plan.micro_batches));
  PENSTOCK_RETURN_IF_ERROR(session.exchange->BeginStep(step));
  std::optional<v1::StepDecision> decision;
  StageExecutor::RunOptions run;
  run.step = step;
  run.samples = [&](int micro_batch) { return SamplesOfMicroBatch(plan.spec(), step, plan.at.data_rank, micro_batch); };
  run.reduce_gradients = [&] { return ReduceAndPush(session, step); };
  run.optimizer_step = [&] { return CommitAndPull(session, step, &decision); };
  PENSTOCK_RETURN_IF_ERROR(session.executor->Run(plan.training, run));

  const absl::Time end = Clock::Real()->Monotonic();
  session.clock.Resolve();
  const double seconds = absl::ToDoubleSeconds(end - begin) + std::exchange(session.carried_seconds, 0);
  const bool local = UpdatesLocally(plan.spec());
  if (local) {
    PENSTOCK_RETURN_IF_ERROR(KeepStep(session, *decision, seconds));
    session.carried_seconds = absl::ToDoubleSeconds(Clock::Real()->Monotonic() - end);
  }
  uint64_t tokens = 0;
  if (plan.speaks()) {
    for (const MicroBatchLoss& loss : session.executor->losses()) tokens += static_cast<uint64_t>(loss.target_count);
  }
  if (options_.metrics != nullptr) {
    options_.metrics->StepDone(seconds, tokens, session.clock);
    const Communicator::Counters now = session.comm->counters();
    options_.metrics->AddComm(std::exchange(session.comm_seen, now), now);
  }
  if (decision.has_value() && !local) {
    v1::MemberReport report;
    *report.mutable_step() = RecordOf(session, *decision, seconds);
    Report(std::move(report));
  }
  return absl::OkStatus();
}

v1::StepRecord RankRunner::RecordOf(const Session& session, const v1::StepDecision& decision, double seconds) const {
  v1::StepRecord record = MakeRecord(decision, options_.assignment.epoch());
  record.set_step_seconds(seconds);
  record.set_compute_seconds(session.clock.seconds(Activity::kCompute) + session.clock.seconds(Activity::kTensor));
  return record;
}

absl::Status RankRunner::ReduceAndPush(Session& session, uint64_t step) {
  PENSTOCK_RETURN_IF_ERROR(session.losses->Send(session.executor->losses()));
  {
    progress_.SetActivity("summing in the data group");
    RankClock::Scope reducing(session.clock, Activity::kReduce);
    PENSTOCK_RETURN_IF_ERROR(session.exchange->Reduce());
  }
  if (UpdatesLocally(session.plan->spec())) return absl::OkStatus();
  progress_.SetActivity("pushing gradients");
  RankClock::Scope pushing(session.clock, Activity::kPush);
  return session.exchange->Push(step);
}

absl::Status RankRunner::CommitAndPull(Session& session, uint64_t step, std::optional<v1::StepDecision>* decision) {
  if (UpdatesLocally(session.plan->spec())) return UpdateLocally(session, step, decision);
  if (session.plan->leader()) {
    RankClock::Scope committing(session.clock, Activity::kCommitWait);
    progress_.SetActivity("gathering losses");
    PENSTOCK_ASSIGN_OR_RETURN(const v1::StepInputs inputs, session.losses->Gather(session.executor->losses()));
    progress_.SetActivity("committing");
    PENSTOCK_ASSIGN_OR_RETURN(*decision, session.driver->Commit(step, inputs));
  }
  progress_.SetActivity("waiting for the new version");
  RankClock::Scope pulling(session.clock, Activity::kPull);
  PENSTOCK_RETURN_IF_ERROR(session.exchange->Pull(step, kVersionTimeout));
  return session.losses->Finish();
}

absl::Status RankRunner::Validate(Session& session, uint64_t version) {
  if (session.validation_micro_batches == 0) return absl::OkStatus();
  const RankPlan& plan = *session.plan;
  session.clock.Reset();
  PENSTOCK_RETURN_IF_ERROR(session.losses->Begin(session.validation_micro_batches));
  StageExecutor::RunOptions run;
  run.step = version;
  run.validation = true;
  // As if the held-out samples were those of steps 1, 2, ...
  run.samples = [&](int micro_batch) {
    const uint64_t batch = static_cast<uint64_t>(micro_batch / plan.micro_batches);
    return SamplesOfMicroBatch(plan.spec(), batch + 1, plan.at.data_rank, micro_batch % plan.micro_batches);
  };
  PENSTOCK_RETURN_IF_ERROR(session.executor->Run(session.validation, run));
  PENSTOCK_RETURN_IF_ERROR(session.losses->Send(session.executor->losses()));
  if (plan.leader()) {
    PENSTOCK_ASSIGN_OR_RETURN(const v1::StepInputs inputs, session.losses->Gather(session.executor->losses()));
    v1::MemberReport report;
    report.mutable_validation()->set_step(version);
    report.mutable_validation()->set_loss(inputs.loss_sum() / static_cast<double>(inputs.target_count()));
    // Not before its step's record.
    session.mirror.has_value() ? session.mirror->Report(std::move(report)) : Report(std::move(report));
  }
  session.clock.Resolve();
  if (options_.metrics != nullptr) options_.metrics->AddTime(session.clock);
  return session.losses->Finish();
}

}  // namespace penstock
