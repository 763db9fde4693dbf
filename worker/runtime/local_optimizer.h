// The optimizer state that a rank holds of what it owns (zero.placement local), and its update of the weights: with the
// kernels and so the bits of the parameter service. In bf16 the model's weights are roundings of the fp32 master
// weights, which belong to that state then; in fp32 the model's weights are the master weights.
//
// Thread-safety: none; the rank's thread. Everything given to Bind outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_LOCAL_OPTIMIZER_H_
#define PENSTOCK_WORKER_RUNTIME_LOCAL_OPTIMIZER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "protos/penstock/v1/step.pb.h"
#include "worker/model/memory_plan.h"
#include "worker/ops/backend.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class LocalOptimizer {
 public:
  explicit LocalOptimizer(const RankPlan& plan);

  void PlanMemory(MemoryPlan* memory);
  void Bind(const Arena& arena, Backend* backend);

  // What is held here of the ranges that the rank updates, all fp32, as ranges to be pulled into.
  std::vector<WeightRange> Held() const;
  // All that the rank holds of the state, as ranges to be published. `weights` are the model's, as for Update.
  std::vector<GradientRange> State(std::span<const WeightRange> weights) const;
  // Both list the ranges that the rank updates, in RankPlan::pushed's order. `weights` are in the type of the model.
  absl::Status Update(const v1::StepDecision& decision, std::span<const GradientRange> gradients,
                      std::span<const WeightRange> weights);

 private:
  absl::Status UpdateRange(const AdamWParams& params, const GradientRange& gradient, const WeightRange& weight,
                           int64_t offset);

  const RankPlan& plan_;
  const bool has_master_;
  // In bf16.
  RegionId master_region_;
  RegionId exp_avg_region_;
  RegionId exp_avg_sq_region_;
  Backend* backend_ = nullptr;
  // The ranges one after the other. Master weights: empty in fp32.
  std::span<float> master_;
  std::span<float> exp_avg_;
  std::span<float> exp_avg_sq_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_LOCAL_OPTIMIZER_H_
