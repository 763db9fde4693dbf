// ZeRO 2's gradients: of each micro-batch and each block the data group adds up the ranks' gradients in rank order, and
// the owners add the sum to what they keep. So a rank holds the gradients of its own part, and of one block at a time.
//
// Where the optimizer is offloaded, too, what is kept is pinned memory of the host, which the device copies and adds to
// (ZeRO-Offload): of the gradients the device has those of one block.
//
// Sums are over micro-batches of sums over ranks (ZeRO 0 and 1: over ranks of sums over micro-batches), which is why
// ZeRO 2 is a class of bits of its own. Depth and schedule don't show: a stage runs backward in micro-batch order, and
// a bucket is a block on every stage.
//
// Thread-safety: none; the rank's thread. Everything given to Bind outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_GRADIENT_BUCKETS_H_
#define PENSTOCK_WORKER_RUNTIME_GRADIENT_BUCKETS_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/communicator.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/runtime/rank_plan.h"

namespace penstock {

class GradientBuckets {
 public:
  explicit GradientBuckets(const RankPlan& plan);

  // `memory`, and so `arena`: of what is kept. The device must be able to write to it.
  void PlanMemory(MemoryPlan* memory);
  void Bind(const Arena& arena, Communicator* comm, Backend* backend);

  // The sums of the steps before stay as they are for as many steps as there are other sets (GradientSums).
  void BeginStep(uint64_t step);
  // The model's sink: collective over the data group.
  absl::Status Reduce(const GradientBucket& bucket);

  // The step's sums of what this rank owns: OwnedRanges::untied and ::tied.
  std::span<float> untied() const { return sets_[current_].untied; }
  std::span<float> tied(TiedUse use) const { return use == TiedUse::kEmbedding ? sets_[current_].embedding : head_; }

 private:
  // What is pushed.
  struct Sums {
    RegionId untied_region;
    RegionId embedding_region;
    std::span<float> untied;
    std::span<float> embedding;
  };
  // A stretch of a memory that a bucket holds, and where it begins in the bucket.
  struct Held {
    ElementRange memory;
    int64_t begin = 0;
  };
  static std::vector<Part> PartsOf(const std::vector<Held>& held, const ElementRange& owned);
  // Adds what of the bucket this rank owns to `sum`, which holds `owned`, or begins the sum with it.
  absl::Status Keep(const std::vector<Held>& held, const ElementRange& owned, std::span<const float> bucket,
                    std::span<float> sum, bool begins);

  const RankPlan& plan_;
  std::vector<Sums> sets_;
  size_t current_ = 0;
  RegionId head_region_;

  Communicator* comm_ = nullptr;
  Backend* backend_ = nullptr;
  std::span<float> head_;
  // Those of which this step's sums have begun.
  std::set<const GradientBucket*> kept_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_GRADIENT_BUCKETS_H_
