// The optimizer state that a rank holds of what it owns (zero.placement local), and its update of the weights: with the
// kernels and so the bits of the parameter service. In bf16 the model's weights are roundings of the fp32 master
// weights, which belong to that state then; in fp32 the model's weights are the master weights.
//
// Offloaded (zero.offload host; Ren et al. 2021, ZeRO-Offload), state and master weights are in the host's memory, and
// the host updates them: run by run the gradients come, if they aren't there already, and the new weights go back,
// while the host is at another run.
//
// Thread-safety: none; the rank's thread. Everything given to Bind outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_LOCAL_OPTIMIZER_H_
#define PENSTOCK_WORKER_RUNTIME_LOCAL_OPTIMIZER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "core/optimizer/adamw.h"
#include "core/plan/memory_class.h"
#include "protos/penstock/v1/step.pb.h"
#include "worker/model/memory_plan.h"
#include "worker/ops/backend.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class LocalOptimizer {
 public:
  // `run_elements_max`: of what is updated at a time where it is offloaded.
  explicit LocalOptimizer(const RankPlan& plan, int64_t run_elements_max = kOffloadRunElements);
  // After an error the device may still be copying.
  ~LocalOptimizer();

  bool offloaded() const { return offloaded_; }
  // Whether Update's gradients are the host's, too, and there when it is called.
  bool gradients_on_host() const { return gradients_on_host_; }
  // Of the host where it is offloaded, else of the device; so is `arena`.
  void PlanMemory(MemoryPlan* memory);
  // `host` updates what is offloaded; null where nothing is.
  void Bind(const Arena& arena, Backend* backend, Backend* host);

  // What is held here of the ranges that the rank updates, all fp32, in the memory of PlanMemory, as ranges to be
  // pulled into.
  std::vector<WeightRange> Held() const;
  // All that the rank holds of the state, as ranges to be published. `weights` are the model's, as for Update.
  std::vector<GradientRange> State(std::span<const WeightRange> weights) const;
  // Both list the ranges that the rank updates, in RankPlan::pushed's order. `weights` are in the type of the model.
  absl::Status Update(const v1::StepDecision& decision, std::span<const GradientRange> gradients,
                      std::span<const WeightRange> weights);

 private:
  // Of run i what is on its way to the host, and the new weights that go back, where they are rounded.
  struct Run {
    RegionId gradients_region;
    RegionId rounded_region;
    std::span<float> buffer;
    std::span<std::byte> rounded;
    // Where the host finds them behind `fetched`, which is behind all that the device was given before; null: they are
    // there.
    std::vector<GradientRange> gradients;
    std::shared_ptr<Fence> fetched;
  };

  absl::Status UpdateOnHost(const AdamWParams& params, std::span<const GradientRange> gradients,
                            std::span<const WeightRange> weights);
  absl::Status Fetch(std::span<const GradientRange> gradients, Run* run);
  absl::Status UpdateRun(const AdamWParams& params, std::span<const WeightRange> weights, const Run& run,
                         int64_t offset);
  // `gradient` and `weight` are memory of `backend`.
  absl::Status UpdateRange(Backend* backend, const AdamWParams& params, const GradientRange& gradient,
                           const WeightRange& weight, int64_t offset);

  const RankPlan& plan_;
  const bool offloaded_;
  const bool gradients_on_host_;
  const bool has_master_;
  const int64_t run_elements_;
  // Where there are some.
  RegionId master_region_;
  RegionId exp_avg_region_;
  RegionId exp_avg_sq_region_;
  // Used by turns.
  std::array<Run, kOffloadRuns> runs_;
  Backend* backend_ = nullptr;
  Backend* host_ = nullptr;
  // The ranges one after the other. Master weights: empty where there are none.
  std::span<float> master_;
  std::span<float> exp_avg_;
  std::span<float> exp_avg_sq_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_LOCAL_OPTIMIZER_H_
