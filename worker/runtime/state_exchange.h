// How gradients get from a stage's ranks to the parameter service, and new weights back: reduce-scatter over the data
// group, the tied parameter's two parts added, owners push; owners pull, all-gather over the data group, tensor rank 0
// hands what is shared to its tensor group. A shared parameter's gradient is the same on every tensor rank, so that
// tensor rank 0's is pushed and the others' are left alone.
//
// Thread-safety: none; the rank's thread. Everything given to Bind outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_STATE_EXCHANGE_H_
#define PENSTOCK_WORKER_RUNTIME_STATE_EXCHANGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class StateExchange {
 public:
  explicit StateExchange(const RankPlan& plan) : plan_(plan) {}

  void PlanMemory(MemoryPlan* memory);
  void Bind(const Arena& arena, StageModel* model, Communicator* comm, StateClient* client);

  // At the start of a step: the first stage's owner posts its receive of the head's part.
  absl::Status BeginStep();
  // Sums the stage's gradients over its data group, in rank order; then the first stage's owner holds embedding part +
  // head part of the tied parameter.
  absl::Status Reduce();
  // Hands this rank's own ranges to the service.
  absl::Status Push(uint64_t step);
  // Takes the weights of `version` as soon as it is committed, and shares them within the data and tensor groups.
  // Gradients may be written again when it returns.
  absl::Status Pull(uint64_t version, absl::Duration timeout);

 private:
  // This rank owns a part of the tied parameter, and embedding and head are on different stages.
  bool ExchangesTied() const;
  absl::Status AddHeadPart(std::span<const float> head);
  // What this rank owns of the tied gradient's memory.
  std::span<float> OwnTied(TiedUse use) const;

  const RankPlan& plan_;
  RegionId head_region_;
  bool receives_head_ = false;

  StageModel* model_ = nullptr;
  Communicator* comm_ = nullptr;
  StateClient* client_ = nullptr;
  // First stage: the head's part of the owned elements of the tied gradient.
  std::span<float> head_part_;
  // Of the tied gradient between the stages, this step's.
  std::vector<std::shared_ptr<Transfer>> head_receives_;
  std::vector<std::shared_ptr<Transfer>> head_sends_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_STATE_EXCHANGE_H_
