// RankRunner's steps where the ranks update the weights themselves (zero.placement local).
#include <utility>

#include "core/base/annotate.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"
#include "worker/runtime/rank_error.h"
#include "worker/runtime/rank_session.h"

namespace penstock {

absl::Status RankRunner::PlanLocal(Session& session) {
  const RankPlan& plan = *session.plan;
  PENSTOCK_ASSIGN_OR_RETURN(session.norm, GradientNorm::Create(plan));
  session.norm->PlanMemory(&session.sums_plan());
  session.optimizer.emplace(plan);
  session.optimizer->PlanMemory(session.optimizer->offloaded() ? &session.host_plan() : &session.memory);
  if (IsPublished(plan.spec())) return absl::OkStatus();
  Mirror::Options options;
  options.lag = static_cast<int>(plan.spec().parallel().zero().mirror_lag());
  options.ranges = plan.updated();
  options.in_place = GradientSums(plan.spec()) > 1;
  options.timeout = kVersionTimeout;
  options.report = [this](v1::MemberReport report) { Report(std::move(report)); };
  options.on_lag = [metrics = options_.metrics](int steps) {
    if (metrics != nullptr) metrics->SetMirrorLag(steps);
  };
  session.mirror.emplace(std::move(options));
  session.mirror->PlanMemory(&session.host_plan());
  return absl::OkStatus();
}

absl::Status RankRunner::BindLocal(Session& session) {
  const StateExchange::SumsHome sums = session.sums_home();
  PENSTOCK_RETURN_IF_ERROR(session.norm->Bind(*sums.arena, sums.comm, session.control, sums.backend));
  session.optimizer->Bind(session.optimizer->offloaded() ? session.host() : *session.arena, session.backend.get(),
                          session.host_backend.get());
  if (!session.mirror.has_value()) return absl::OkStatus();
  session.mirror->Start(session.host(), sums.backend, session.client.get(),
                        session.driver.has_value() ? &*session.driver : nullptr);
  session.model->SetGradientGuard([&mirror = *session.mirror] { return mirror.GuardGradients(); });
  return absl::OkStatus();
}

absl::Status RankRunner::UpdateLocally(Session& session, uint64_t step, std::optional<v1::StepDecision>* decision) {
  RankClock::Scope updating(session.clock, Activity::kUpdate);
  std::optional<v1::StepInputs> inputs;
  if (session.plan->leader()) {
    progress_.SetActivity("gathering losses");
    PENSTOCK_ASSIGN_OR_RETURN(inputs, session.losses->Gather(session.executor->losses()));
  }
  const std::vector<GradientRange> gradients = session.exchange->PushedGradients();
  if (session.mirror.has_value()) {
    // Beside all that follows, up to the next gradients.
    progress_.SetActivity(kMirrorActivity);
    RankClock::Scope keeping(session.clock, Activity::kMirror);
    PENSTOCK_RETURN_IF_ERROR(session.mirror->Take(step, gradients));
  }
  progress_.SetActivity("agreeing on the gradient's norm");
  PENSTOCK_ASSIGN_OR_RETURN(*decision, session.norm->Decide(step, gradients, inputs));
  progress_.SetActivity("updating the weights");
  PENSTOCK_RETURN_IF_ERROR(session.optimizer->Update(**decision, gradients, session.exchange->PushedWeights()));
  progress_.SetActivity("sharing the new weights");
  PENSTOCK_RETURN_IF_ERROR(session.exchange->ShareUpdated());
  return session.losses->Finish();
}

// Hands a step that is done here to the parameter service. A step counts, and is in the history, when the service has
// committed it; of a published job it counts for the user at once, and recovery takes it back.
absl::Status RankRunner::KeepStep(Session& session, const v1::StepDecision& decision, double seconds) {
  RankClock::Scope keeping(session.clock, Activity::kMirror);
  const bool leader = session.plan->leader();
  v1::StepRecord record;
  if (leader) record = RecordOf(session, decision, seconds);
  if (session.mirror.has_value()) {
    Mirror::Step step{.step = decision.step(), .decision = std::nullopt, .record = record};
    if (leader) step.decision = decision;
    return session.mirror->Add(std::move(step));
  }
  if (IsDigestStep(session.plan->spec(), decision.step())) {
    progress_.Set(decision.step(), "publishing the state");
    PENSTOCK_RETURN_IF_ERROR(
        Annotate(Publish(session, decision), absl::StrCat("publishing version ", decision.step())));
  } else if (leader) {
    if (session.unpublished.size() == kUnpublishedRecordsMax) session.unpublished.erase(session.unpublished.begin());
    session.unpublished.push_back(record);
  }
  if (leader) {
    v1::MemberReport report;
    *report.mutable_step() = std::move(record);
    Report(std::move(report));
  }
  return absl::OkStatus();
}

absl::Status RankRunner::Publish(Session& session, const v1::StepDecision& decision) {
  const std::vector<ElementRange>& ranges = session.plan->updated();
  if (!ranges.empty()) {
    PENSTOCK_RETURN_IF_ERROR(FromService(
        session.optimizer_state()->Push(decision.step(), session.optimizer->State(session.exchange->PushedWeights()))));
  }
  if (session.plan->leader()) {
    PENSTOCK_RETURN_IF_ERROR(
        session.driver->Commit(decision.step(), decision.inputs(), decision, std::exchange(session.unpublished, {}))
            .status());
  }
  // The next version's chunks are refused before this one is committed.
  return FromService(session.client->AwaitVersion(decision.step(), ranges, kVersionTimeout));
}

}  // namespace penstock
