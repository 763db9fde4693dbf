// The gradient's global norm where the ranks update the weights themselves (zero.placement local): the same sums, piece
// by piece and in the same order, as the shards of the parameter service take, so that a step's decision has the same
// bits in both placements; and the decision itself, made by the leader for all.
//
// Thread-safety: none; the rank's thread. Backend and arena outlive it, and it outlives the communicator.
#ifndef PENSTOCK_WORKER_RUNTIME_GRADIENT_NORM_H_
#define PENSTOCK_WORKER_RUNTIME_GRADIENT_NORM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout/norm_plan.h"
#include "protos/penstock/v1/step.pb.h"
#include "worker/comm/communicator.h"
#include "worker/model/memory_plan.h"
#include "worker/ops/backend.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/state_client.h"

namespace penstock {

class GradientNorm {
 public:
  // `plan` outlives it. INVALID_ARGUMENT when the ranks' ranges don't make up the space.
  static absl::StatusOr<GradientNorm> Create(const RankPlan& plan);

  void PlanMemory(MemoryPlan* memory);
  // `backend` and `comm`: of the gradients' memory, and so is `arena`. `control` takes the host's; they may be one. All
  // memory is taken now: later that may wait for what waits on the device for a peer.
  absl::Status Bind(const Arena& arena, Communicator* comm, Communicator* control, Backend* backend);

  // All ranks call it, each with the summed gradients that it owns, the leader with the step's inputs. Everyone gets
  // the decision; only the leader's has the inputs. FAILED_PRECONDITION at the leader when the norm isn't finite; the
  // others wait until they are told to stop.
  absl::StatusOr<v1::StepDecision> Decide(uint64_t step, std::span<const GradientRange> gradients,
                                          const std::optional<v1::StepInputs>& inputs);

 private:
  // What every rank needs of a decision, as it is sent: all ranks of a job run the same build.
  struct WireDecision {
    double gradient_norm = 0;
    float learning_rate = 0;
    float gradient_scale = 0;
    float bias_correction1 = 0;
    float bias_correction2 = 0;
  };
  using Transfers = std::vector<std::shared_ptr<Transfer>>;

  GradientNorm(const RankPlan& plan, std::vector<NormPiece> pieces);

  // Starts sending the fragments of pieces that are at home elsewhere.
  absl::StatusOr<Transfers> SendFragments(std::span<const GradientRange> gradients);
  // Into own_sums_: sums of the pieces that are at home here, in order.
  absl::Status HomeSums(std::span<const GradientRange> gradients);
  // Puts a piece together from this rank's memory and from the other owners.
  absl::StatusOr<std::span<const float>> Assemble(const NormPiece& piece, std::span<const GradientRange> gradients);
  absl::StatusOr<v1::StepDecision> DecideForAll(uint64_t step, const v1::StepInputs& inputs);
  absl::StatusOr<v1::StepDecision> Share(const std::optional<v1::StepDecision>& decision, uint64_t step);

  const RankPlan* plan_;
  // All of the space, in order.
  std::vector<NormPiece> pieces_;
  // Some piece at home here has to be put together.
  bool assembles_ = false;
  RegionId piece_region_;

  Communicator* comm_ = nullptr;
  Communicator* control_ = nullptr;
  Backend* backend_ = nullptr;
  std::span<float> piece_;
  // Members, because a message that an error left on its way outlives the call. The leader's: by rank.
  std::vector<double> own_sums_;
  std::unique_ptr<DeviceMemory> host_sums_;  // on their way from the device
  std::vector<std::vector<double>> sums_;
  WireDecision wire_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_GRADIENT_NORM_H_
