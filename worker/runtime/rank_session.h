// Private to RankRunner: what a rank holds between its assignment and its end.
//
// Members are destroyed in reverse order, which matters: the connections are closed before the memory that messages on
// their way refer to is freed. Whatever is declared after `comm` owns none.
#ifndef PENSTOCK_WORKER_RUNTIME_RANK_SESSION_H_
#define PENSTOCK_WORKER_RUNTIME_RANK_SESSION_H_

#include <memory>
#include <optional>
#include <vector>

#include "core/plan/job_facts.h"
#include "worker/comm/communicator.h"
#include "worker/comm/connector.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/ops/backend.h"
#include "worker/runtime/abort_scope.h"
#include "worker/runtime/batch_reader.h"
#include "worker/runtime/comm_tensor_group.h"
#include "worker/runtime/commit_driver.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/gradient_norm.h"
#include "worker/runtime/local_optimizer.h"
#include "worker/runtime/loss_report.h"
#include "worker/runtime/mirror.h"
#include "worker/runtime/rank_metrics.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/rank_runner.h"
#include "worker/runtime/state_client.h"
#include "worker/runtime/state_exchange.h"

namespace penstock {

struct RankRunner::Session {
  // Set first, constant from then on.
  std::optional<RankPlan> plan;
  // The list of a validation, and its number of micro-batches; empty and 0 where there is none.
  std::vector<Instruction> validation;
  int validation_micro_batches = 0;

  RankClock clock;
  std::unique_ptr<Backend> backend;
  // What an offloaded optimizer computes with.
  std::unique_ptr<Backend> host_backend;
  MemoryPlan memory;
  std::optional<Arena> arena;
  // What has to be the host's where the backend's memory isn't.
  MemoryPlan host_memory;
  std::optional<Arena> host_arena;
  std::optional<BatchReader> reader;
  std::optional<CommTensorGroup> tensor_group;
  std::unique_ptr<StageModel> model;

  std::unique_ptr<StateClient> client;
  // For ranges in the backend's memory: `client` itself, or one that copies.
  std::unique_ptr<StateClient> staged_client;
  StateClient* state() const { return staged_client != nullptr ? staged_client.get() : client.get(); }
  // For LocalOptimizer's ranges.
  StateClient* optimizer_state() const { return optimizer->offloaded() ? client.get() : state(); }
  // Before the connections: they own what they send and receive. The norm is there where the ranks update.
  std::optional<LossReport> losses;
  std::optional<GradientNorm> norm;
  // `comm` takes the backend's memory, `control` the host's: one and the same where these are. `host_comm` is there
  // where the device has connections of its own.
  std::unique_ptr<Communicator> host_comm;
  std::unique_ptr<Communicator> comm;
  Communicator* control = nullptr;
  Communicator::Counters comm_seen;

  std::optional<StageExecutor> executor;
  std::optional<StateExchange> exchange;
  std::optional<CommitDriver> driver;  // the leader's

  // Where the ranks update: with a mirror, or records of steps that aren't published yet (the leader's).
  std::optional<LocalOptimizer> optimizer;
  std::optional<Mirror> mirror;
  std::vector<v1::StepRecord> unpublished;
  // What followed the last step's measured time, and belongs to the next one's.
  double carried_seconds = 0;

  std::vector<std::unique_ptr<AbortScope::Hook>> hooks;

  // Where the gradients that the rank owns are added up.
  bool sums_on_host() const { return OffloadsGradients(plan->spec()); }
  MemoryPlan& sums_plan() { return sums_on_host() ? host_plan() : memory; }
  StateExchange::SumsHome sums_home() const {
    if (sums_on_host()) return {&host(), host_backend.get(), control};
    return {&*arena, backend.get(), comm.get()};
  }

  MemoryPlan& host_plan() { return backend->host_memory() ? memory : host_memory; }
  const Arena& host() const { return backend->host_memory() ? *arena : *host_arena; }

  // Frees what a rank that is done needs no more; the connections stay. Nothing is on its way any more.
  void FreeMemory() {
    hooks.clear();
    mirror.reset();
    optimizer.reset();
    driver.reset();
    losses.reset();
    norm.reset();
    exchange.reset();
    executor.reset();
    staged_client.reset();
    client.reset();
    model.reset();
    reader.reset();
    arena.reset();
    host_arena.reset();
    host_backend.reset();
    backend.reset();
  }
  ~Session() {
    hooks.clear();
    // The mirror's thread may wait for a device that waits for a peer.
    if (host_comm != nullptr && comm != nullptr) comm->Abort(absl::CancelledError("the rank ends"));
  }
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANK_SESSION_H_
