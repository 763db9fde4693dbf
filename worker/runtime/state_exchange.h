// How gradients get from a stage's ranks to the parameter service, and new weights back: reduce-scatter over the data
// group, the tied parameter's two parts added, owners push; owners pull, all-gather over the data group, tensor rank 0
// hands what is shared to its tensor group. A shared parameter's gradient is the same on every tensor rank, so that
// tensor rank 0's is pushed and the others' are left alone.
//
// The sums of the gradients that a rank owns are its device's, or, where they are offloaded, its host's: then Reduce
// waits for the device, and hands them to the host, which adds up and sends what is tied by itself.
//
// Thread-safety: none; the rank's thread. Everything given to Bind outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_STATE_EXCHANGE_H_
#define PENSTOCK_WORKER_RUNTIME_STATE_EXCHANGE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/runtime/gradient_buckets.h"
#include "worker/runtime/rank_clock.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class StateExchange {
 public:
  explicit StateExchange(const RankPlan& plan) : plan_(plan) {
    if (plan.bucketed()) buckets_.emplace(plan);
  }

  // Who has the sums: their memory, and what computes with it and sends it.
  struct SumsHome {
    const Arena* arena = nullptr;
    Backend* backend = nullptr;
    Communicator* comm = nullptr;
  };

  // `sums`: of their home.
  void PlanMemory(MemoryPlan* sums);
  // `clock` is where the time of ZeRO 2's sums goes, which are taken inside of the passes.
  // All of `comm`'s and `client`'s memory is `backend`'s.
  void Bind(const SumsHome& sums, StageModel* model, Backend* backend, Communicator* comm, StateClient* client,
            RankClock* clock);

  // At the start of a step: the first stage's owner posts its receive of the head's part; ZeRO 2's sums are zero.
  absl::Status BeginStep(uint64_t step);
  // Sums the stage's gradients over its data group, in rank order (with ZeRO 2 they are already); then the first
  // stage's owner holds embedding part + head part of the tied parameter.
  absl::Status Reduce();
  // Hands this rank's own ranges to the service.
  absl::Status Push(uint64_t step);
  // What Push hands over: the gradients of what the rank answers for, and its weights.
  std::vector<GradientRange> PushedGradients() const;
  std::vector<WeightRange> PushedWeights() const;
  // Takes the weights of `version` as soon as it is committed, and shares them within the data and tensor groups.
  // Gradients may be written again when it returns.
  absl::Status Pull(uint64_t version, absl::Duration timeout);
  // Instead of Pull where the ranks update: PushedWeights() are the new ones. Shares them with the last stage (the tied
  // ones) and within the data and tensor groups.
  absl::Status ShareUpdated();

 private:
  absl::Status ReduceWholeStep();
  // Owned weights are in place: shares them within the data and tensor groups.
  absl::Status Gather();
  absl::Status HandTiedWeights();
  // This rank owns a part of the tied parameter, and embedding and head are on different stages.
  bool ExchangesTied() const;
  absl::Status AddHeadPart(std::span<const float> head);
  void AddWeights(const RangeList& list, std::span<std::byte> memory, const ElementRange& own,
                  std::vector<WeightRange>* ranges) const;
  absl::Status GatherWeights(std::span<std::byte> memory, const std::vector<std::vector<Part>>& parts);
  // What this rank owns of the gradients' memory.
  std::span<float> OwnUntied() const;
  std::span<float> OwnTied(TiedUse use) const;

  const RankPlan& plan_;
  // With ZeRO 2.
  std::optional<GradientBuckets> buckets_;
  RegionId head_region_;
  bool receives_head_ = false;

  StageModel* model_ = nullptr;
  Backend* backend_ = nullptr;
  Communicator* comm_ = nullptr;
  SumsHome sums_;
  StateClient* client_ = nullptr;
  // First stage: the head's part of the owned elements of the tied gradient.
  std::span<float> head_part_;
  // Of the tied gradient between the stages, this step's.
  std::vector<std::shared_ptr<Transfer>> head_receives_;
  std::vector<std::shared_ptr<Transfer>> head_sends_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_STATE_EXCHANGE_H_
