// RankRunner's way from an assignment to the first step.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/annotate.h"
#include "core/base/status_macros.h"
#include "core/plan/fitting_change.h"
#include "core/plan/job_facts.h"
#include "core/plan/memory_model.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/data/samples.h"
#include "worker/comm/staged/staged_communicator.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/runtime/rank_error.h"
#include "worker/runtime/rank_session.h"
#include "worker/runtime/staged_state_client.h"

namespace penstock {
namespace {

// Of what takes most of a memory that doesn't suffice.
constexpr size_t kTagsShown = 4;
// Between two tries.
constexpr absl::Duration kMemoryPause = absl::Milliseconds(100);

absl::StatusOr<BatchReader> OpenData(const RankPlan& plan, Backend* backend) {
  const v1::JobSpec& spec = plan.spec();
  PENSTOCK_ASSIGN_OR_RETURN(Samples samples, Samples::Open(spec));
  return BatchReader::Create(std::move(samples), spec.training().micro_batch_size(), spec.model().seq_length(),
                             backend);
}

// A device's memory that doesn't suffice: what takes most of it, and what to change about the job.
absl::Status WithAdvice(const absl::Status& status, const MemoryPlan& memory, const RankPlan& plan, Backend* backend) {
  std::string message =
      absl::StrCat(absl::string_view(status.message()), "; the largest are ", memory.DescribeLargest(kTagsShown));
  const absl::StatusOr<int64_t> available = backend->AvailableBytes();
  if (!available.ok()) return absl::Status(status.code(), message);
  // The operations' workspaces, which the model doesn't count.
  int64_t modelled = 0;
  if (const auto ranks = MemoryOfJob(plan.spec()); ranks.ok()) {
    modelled = (*ranks)[static_cast<size_t>(plan.rank())].total();
  }
  const int64_t beyond = modelled > 0 ? std::max<int64_t>(0, memory.total_bytes() - modelled) : 0;
  const std::optional<std::string> change = SmallestFittingChange(plan.spec(), *available, beyond);
  absl::StrAppend(&message, "; ", change.value_or("the model needs more or larger devices"));
  return absl::Status(status.code(), message);
}

}  // namespace

// What can be known without anybody else. An error here comes back in every epoch on this machine.
absl::Status RankRunner::PlanRank(Session& session) {
  PENSTOCK_ASSIGN_OR_RETURN(session.plan, MakeRankPlan(options_.assignment));
  const RankPlan& plan = *session.plan;
  const v1::JobSpec& spec = plan.spec();
  if (IsOffloaded(spec)) {
    PENSTOCK_ASSIGN_OR_RETURN(session.host_backend, CreateCpuBackend({.threads = options_.threads}));
  }
  PENSTOCK_ASSIGN_OR_RETURN(session.reader, OpenData(plan, session.backend.get()));
  if (spec.training().validate_every_steps() > 0) {
    const uint64_t samples = ValidationSamples(spec, static_cast<uint64_t>(session.reader->validation_windows()));
    session.validation_micro_batches =
        static_cast<int>(samples / (spec.training().micro_batch_size() * static_cast<uint64_t>(plan.mesh.data())));
  }
  if (session.validation_micro_batches > 0) {
    PENSTOCK_ASSIGN_OR_RETURN(session.validation, plan.Validation(session.validation_micro_batches));
  }

  const StageOptions stage{.blocks = plan.parameters.blocks,
                           .micro_batch_size = spec.training().micro_batch_size(),
                           .slots = plan.slots,
                           .tensor = plan.parameters.tensor,
                           .bucketed = plan.bucketed(),
                           .type = ComputeType(spec),
                           .dropout = spec.training().dropout(),
                           .seed = spec.training().seed()};
  PENSTOCK_ASSIGN_OR_RETURN(session.model,
                            CreateStageModel(spec.model(), plan.table, stage, session.backend.get(), &session.memory));
  session.executor.emplace(plan, session.validation);
  session.exchange.emplace(plan);
  PENSTOCK_RETURN_IF_ERROR(session.executor->PlanMemory(*session.model, &session.memory));
  session.exchange->PlanMemory(&session.sums_plan());
  return UpdatesLocally(spec) ? PlanLocal(session) : absl::OkStatus();
}

// A plan that no such device has room for is the job's fault. What others have of it may come back: a process that was
// killed leaves its memory to the driver, which takes some seconds.
absl::StatusOr<Arena> RankRunner::AllocateArena(Session& session) {
  Backend* const backend = session.backend.get();
  const absl::Time deadline = Clock::Real()->Monotonic() + options_.memory_wait;
  while (true) {
    absl::StatusOr<Arena> arena = Arena::Allocate(session.memory, backend);
    if (!absl::IsResourceExhausted(arena.status())) return arena;
    const absl::StatusOr<int64_t> capacity = backend->CapacityBytes();
    const bool never = !capacity.ok() || session.memory.total_bytes() > *capacity;
    if (never || Clock::Real()->Monotonic() >= deadline) {
      const absl::Status status = WithAdvice(arena.status(), session.memory, *session.plan, backend);
      return never ? MarkPermanent(status) : status;
    }
    progress_.SetActivity(kMemoryActivity);
    if (WaitStopped(kMemoryPause)) return abort_.status();
  }
}

absl::Status RankRunner::TakeMemory(Session& session) {
  const RankPlan& plan = *session.plan;
  PENSTOCK_ASSIGN_OR_RETURN(session.arena, AllocateArena(session));
  if (!session.backend->host_memory()) {
    absl::StatusOr<Arena> host = Arena::AllocateHost(session.host_memory, session.backend.get());
    PENSTOCK_RETURN_IF_ERROR(MarkPermanent(host.status()));
    session.host_arena = *std::move(host);
  }
  session.tensor_group.emplace(plan.tensor_group, plan.at.tensor_rank);
  session.model->Bind(*session.arena, &*session.tensor_group);
  if (options_.metrics != nullptr) options_.metrics->SetMemory(session.memory, session.host_memory);
  const std::string host =
      session.host_memory.total_bytes() > 0 ? absl::StrCat("; on the host ", session.host_memory.Describe()) : "";
  LogInfo("job {} epoch {}: rank {} of {} is {}; memory {}{}", options_.assignment.job_id(),
          options_.assignment.epoch(), plan.rank(), plan.mesh.size(), plan.Place(), session.memory.Describe(), host);
  return absl::OkStatus();
}

// Between hosts' memories always; between devices by connections of their own where there are some, or by copies.
absl::Status RankRunner::ConnectPeers(Session& session) {
  const auto connect = [this](const std::unique_ptr<Connector>& connector) {
    AbortScope::Hook hook(abort_, [&](const absl::Status& reason) { connector->Abort(reason); });
    return connector->Connect();
  };
  PENSTOCK_ASSIGN_OR_RETURN(session.comm, connect(options_.connect(*session.plan)));
  session.control = session.comm.get();
  if (session.backend->host_memory()) return absl::OkStatus();
  std::unique_ptr<Connector> between_devices =
      options_.connect_devices ? options_.connect_devices(*session.plan) : nullptr;
  if (between_devices == nullptr) {
    session.comm = std::make_unique<StagedCommunicator>(std::move(session.comm), session.backend.get());
    return absl::OkStatus();
  }
  session.host_comm = std::move(session.comm);
  PENSTOCK_ASSIGN_OR_RETURN(session.comm, connect(between_devices));
  session.backend->SetHostWait(session.comm->host_wait());
  return absl::OkStatus();
}

absl::Status RankRunner::Connect(Session& session) {
  const RankPlan& plan = *session.plan;
  progress_.Set(options_.assignment.start_step(), "connecting to peers");
  PENSTOCK_RETURN_IF_ERROR(ConnectPeers(session));
  const auto hook = [&](AbortScope::Function function) {
    session.hooks.push_back(std::make_unique<AbortScope::Hook>(abort_, std::move(function)));
  };
  hook([comm = session.comm.get()](const absl::Status& reason) { comm->Abort(reason); });
  hook([control = session.control](const absl::Status& reason) { control->Abort(reason); });
  PENSTOCK_ASSIGN_OR_RETURN(session.client, options_.state(plan));
  hook([client = session.client.get()](const absl::Status& reason) { client->Cancel(std::string(reason.message())); });
  if (!session.backend->host_memory()) {
    const int64_t updated = UpdatesLocally(plan.spec()) ? TotalSize(plan.updated()) : 0;
    PENSTOCK_ASSIGN_OR_RETURN(session.staged_client,
                              StageThroughHost(session.client.get(), session.backend.get(),
                                               StagedBytes(plan.spec(), plan.parameters, plan.mine(), updated)));
  }

  if (plan.leader()) {
    session.driver.emplace(StepLeader::Options{.shard_count = session.client->shard_count(),
                                               .epoch = options_.assignment.epoch(),
                                               .optimizer = plan.spec().optimizer(),
                                               .total_steps = plan.spec().training().steps(),
                                               .backoff = {},
                                               .published = IsPublished(plan.spec()),
                                               .step_timeout = kVersionTimeout},
                           session.client.get());
    hook([&driver = *session.driver](const absl::Status& reason) { driver.Abort(reason); });
  }
  session.tensor_group->Bind(session.comm.get(), &session.clock);
  session.losses.emplace(plan, session.control);
  session.exchange->Bind(session.sums_home(), session.model.get(), session.backend.get(), session.comm.get(),
                         session.state(), &session.clock);
  if (UpdatesLocally(plan.spec())) PENSTOCK_RETURN_IF_ERROR(BindLocal(session));
  if (session.mirror.has_value()) {
    hook([&mirror = *session.mirror](const absl::Status& reason) { mirror.Abort(reason); });
  }
  session.executor->Bind(*session.arena, {.model = session.model.get(),
                                          .comm = session.comm.get(),
                                          .reader = &*session.reader,
                                          .abort = &abort_,
                                          .progress = &progress_,
                                          .clock = &session.clock,
                                          .timeline = options_.timeline});
  return absl::OkStatus();
}

absl::Status RankRunner::Prepare(Session& session) {
  progress_.Set(options_.assignment.start_step(), "planning memory");
  if (options_.backend) {
    // A device that is lost is no fault of the job's: another worker may do.
    PENSTOCK_ASSIGN_OR_RETURN(session.backend, options_.backend());
  } else {
    PENSTOCK_ASSIGN_OR_RETURN(session.backend, CreateCpuBackend({.threads = options_.threads}));
  }
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<StreamClock> stream_clock, session.backend->CreateStreamClock({}));
  session.clock.Bind(std::move(stream_clock));
  PENSTOCK_RETURN_IF_ERROR(MarkPermanent(PlanRank(session)));
  PENSTOCK_RETURN_IF_ERROR(TakeMemory(session));
  PENSTOCK_RETURN_IF_ERROR(Connect(session));
  progress_.Set(options_.assignment.start_step(), "pulling the start version");
  session.clock.Reset();
  {
    RankClock::Scope pulling(session.clock, Activity::kPull);
    const uint64_t version = options_.assignment.start_step();
    absl::Status status = session.exchange->Pull(version, kVersionTimeout);
    if (status.ok() && session.optimizer.has_value() && !session.plan->updated().empty()) {
      status = FromService(session.optimizer_state()->Pull(version, session.optimizer->Held(), kVersionTimeout));
    }
    if (!status.ok()) {
      return Annotate(status, absl::StrCat("pulling version ", options_.assignment.start_step()));
    }
  }
  session.clock.Resolve();
  if (options_.metrics != nullptr) options_.metrics->AddTime(session.clock);
  v1::MemberReport report;
  report.mutable_ready()->set_rank(options_.assignment.rank());
  Report(std::move(report));
  return absl::OkStatus();
}

}  // namespace penstock
