// Executes a stage's list of instructions: each Op is mapped to an action, and no schedule is known by name.
//
//   StageExecutor executor(plan, validation_list);
//   executor.PlanMemory(*model, &memory);                          // buffers for messages
//   executor.Bind(arena, {.model = ..., .comm = ..., ...});
//   executor.Run(plan.training, run)                                // step after step
//
// Thread-safety: none; the rank's thread. Everything given to Bind outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_EXECUTOR_H_
#define PENSTOCK_WORKER_RUNTIME_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "core/plan/job_facts.h"
#include "core/schedule/instruction.h"
#include "services/telemetry/timeline.h"
#include "worker/comm/communicator.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/runtime/abort_scope.h"
#include "worker/runtime/batch_reader.h"
#include "worker/runtime/message_lane.h"
#include "worker/runtime/rank_clock.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/rank_progress.h"

namespace penstock {

// Tags of messages between stages; a micro-batch's number is added to the first two.
inline constexpr Tag kActivationTag = 0x0100'0000;
inline constexpr Tag kGradientTag = 0x0200'0000;
inline constexpr Tag kTiedGradientTag = 0x0300'0000;
inline constexpr Tag kLossReportTag = 0x0300'0001;
inline constexpr Tag kTiedWeightsTag = 0x0300'0002;
inline constexpr Tag kNormFragmentTag = 0x0300'0003;
inline constexpr Tag kNormSumsTag = 0x0300'0004;
inline constexpr uint32_t kMicroBatchesMax = 1 << 24;
static_assert(kActivationTag + kMicroBatchesMax <= kGradientTag && kGradientTag + kMicroBatchesMax <= kTiedGradientTag);

// What the last stage knows about a micro-batch: also the message that a data rank sends to the leader.
struct MicroBatchLoss {
  double loss_sum = 0;
  int64_t target_count = 0;
  // The samples that were read.
  uint64_t samples_begin = 0;
  uint64_t samples_end = 0;
};

class StageExecutor {
 public:
  struct Environment {
    StageModel* model = nullptr;
    Communicator* comm = nullptr;
    BatchReader* reader = nullptr;
    const AbortScope* abort = nullptr;
    RankProgress* progress = nullptr;
    RankClock* clock = nullptr;
    Timeline* timeline = nullptr;  // may be null
  };
  // One execution of a list.
  struct RunOptions {
    // The step, or the version that is validated.
    uint64_t step = 0;
    bool validation = false;
    // The samples of a micro-batch of this data rank.
    std::function<SampleWindow(int micro_batch)> samples;
    // Of a training step.
    std::function<absl::Status()> reduce_gradients;
    std::function<absl::Status()> optimizer_step;
  };

  // `validation` may be empty.
  StageExecutor(const RankPlan& plan, const std::vector<Instruction>& validation);

  // INVALID_ARGUMENT when a message would be too long.
  absl::Status PlanMemory(const StageModel& model, MemoryPlan* memory);
  void Bind(const Arena& arena, const Environment& environment);

  // Errors say where: "step 12, Backward mb 3: ...".
  absl::Status Run(const std::vector<Instruction>& list, const RunOptions& options);

  // By micro-batch, of the last Run; empty on other stages than the last.
  const std::vector<MicroBatchLoss>& losses() const { return losses_; }

 private:
  absl::Status Execute(const Instruction& instruction, const RunOptions& options);
  absl::Status Forward(int micro_batch, const RunOptions& options);
  absl::Status Backward(int micro_batch);
  // Completes losses_, when all forward passes of a run were given to the device.
  absl::Status FinishLosses();
  absl::Status Begin(const std::vector<Instruction>& list, const RunOptions& options);
  std::vector<RegionId> PlanLane(const char* name, int buffers, int64_t bytes, MemoryPlan* memory);

  const RankPlan& plan_;
  // Of each lane, in the order activations in, activations out, gradients in, gradients out.
  std::vector<int> lane_buffers_;
  std::vector<std::vector<RegionId>> lane_regions_;
  RecvLane activations_in_{Op::kRecvActivation, kActivationTag};
  SendLane activations_out_{Op::kSendActivation, kActivationTag};
  RecvLane gradients_in_{Op::kRecvGradient, kGradientTag};
  SendLane gradients_out_{Op::kSendGradient, kGradientTag};

  Environment env_;
  // The micro-batch that each slot holds, or -1.
  std::vector<int> slot_micro_batch_;
  std::vector<MicroBatchLoss> losses_;
  // Micro-batches whose losses are the device's still, in the order of their forward passes.
  std::vector<int> awaited_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_EXECUTOR_H_
