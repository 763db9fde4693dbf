#include "worker/runtime/executor.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/annotate.h"
#include "core/base/status_macros.h"
#include "core/schedule/message_buffers.h"
#include "worker/runtime/rank_error.h"

namespace penstock {

StageExecutor::StageExecutor(const RankPlan& plan, const std::vector<Instruction>& validation) : plan_(plan) {
  const auto recv = [&](Op op) { return std::max(RecvBuffersFor(plan.training, op), RecvBuffersFor(validation, op)); };
  const auto send = [&](Op op) { return std::max(SendBuffersFor(plan.training, op), SendBuffersFor(validation, op)); };
  lane_buffers_ = {recv(Op::kRecvActivation), send(Op::kSendActivation), recv(Op::kRecvGradient),
                   send(Op::kSendGradient)};
}

std::vector<RegionId> StageExecutor::PlanLane(const char* name, int buffers, int64_t bytes, MemoryPlan* memory) {
  std::vector<RegionId> regions;
  for (int i = 0; i < buffers; ++i) {
    regions.push_back(memory->Add(MemoryClass::kCommunication, absl::StrCat(name, " ", i), bytes));
  }
  return regions;
}

absl::Status StageExecutor::PlanMemory(const StageModel& model, MemoryPlan* memory) {
  const int64_t bytes = model.boundary_bytes();
  if (plan_.mesh.pipeline() > 1 && static_cast<size_t>(bytes) > kMessageBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a micro-batch hands ", bytes,
                                                   " bytes to the next stage, more than one message carries (",
                                                   kMessageBytesMax, "); use a smaller training.micro_batch_size"));
  }
  lane_regions_ = {PlanLane("activations in", lane_buffers_[0], bytes, memory),
                   PlanLane("activations out", lane_buffers_[1], bytes, memory),
                   PlanLane("gradients in", lane_buffers_[2], bytes, memory),
                   PlanLane("gradients out", lane_buffers_[3], bytes, memory)};
  return absl::OkStatus();
}

void StageExecutor::Bind(const Arena& arena, const Environment& environment) {
  env_ = environment;
  const auto spans = [&](int lane) {
    std::vector<std::span<std::byte>> buffers;
    for (const RegionId region : lane_regions_[lane]) buffers.push_back(arena.Bytes(region));
    return buffers;
  };
  const int previous = plan_.first_stage() ? -1 : plan_.OnStage(plan_.at.stage - 1);
  const int next = plan_.last_stage() ? -1 : plan_.OnStage(plan_.at.stage + 1);
  activations_in_.Bind(env_.comm, previous, spans(0));
  activations_out_.Bind(env_.comm, next, spans(1));
  gradients_in_.Bind(env_.comm, next, spans(2));
  gradients_out_.Bind(env_.comm, previous, spans(3));
}

absl::Status StageExecutor::Begin(const std::vector<Instruction>& list, const RunOptions& options) {
  slot_micro_batch_.assign(env_.model->slots(), -1);
  losses_.clear();
  awaited_.clear();
  if (plan_.last_stage()) {
    const auto forwards =
        std::count_if(list.begin(), list.end(), [](const Instruction& i) { return i.op == Op::kForward; });
    losses_.resize(forwards);
  }
  if (!options.validation) env_.model->ZeroGradients();
  PENSTOCK_RETURN_IF_ERROR(activations_in_.Begin(list));
  return gradients_in_.Begin(list);
}

absl::Status StageExecutor::Run(const std::vector<Instruction>& list, const RunOptions& options) {
  const std::string where = absl::StrCat(options.validation ? "validation of step " : "step ", options.step);
  PENSTOCK_RETURN_IF_ERROR(Annotate(Begin(list, options), absl::StrCat(where, ", before the first instruction")));
  for (size_t index = 0; index < list.size(); ++index) {
    const Instruction& instruction = list[index];
    PENSTOCK_RETURN_IF_ERROR(env_.abort->status());
    env_.progress->Set(options.step, static_cast<uint32_t>(index), instruction, options.validation,
                       env_.comm->counters().collectives);
    env_.clock->BeginInstruction({.epoch = plan_.assignment.epoch(),
                                  .step = options.step,
                                  .instruction = instruction,
                                  .validation = options.validation,
                                  .begin = {},
                                  .end = {}},
                                 env_.timeline);
    if (absl::Status status = Execute(instruction, options); !status.ok()) {
      return Annotate(status, absl::StrCat(where, ", ", instruction.ToString()));
    }
    env_.clock->EndInstruction(env_.timeline);
  }
  if (options.validation) PENSTOCK_RETURN_IF_ERROR(Annotate(FinishLosses(), where));
  RankClock::Scope waiting(*env_.clock, Activity::kWaitSend);
  const std::string sending = absl::StrCat(where, ", waiting for the last sends");
  PENSTOCK_RETURN_IF_ERROR(Annotate(activations_out_.Flush(), sending));
  return Annotate(gradients_out_.Flush(), sending);
}

absl::Status StageExecutor::Execute(const Instruction& instruction, const RunOptions& options) {
  const int micro_batch = instruction.micro_batch;
  switch (instruction.op) {
    case Op::kForward:
      return Forward(micro_batch, options);
    case Op::kBackward:
      return Backward(micro_batch);
    case Op::kSendActivation:
      return activations_out_.Send(micro_batch);
    case Op::kSendGradient:
      return gradients_out_.Send(micro_batch);
    case Op::kRecvActivation: {
      RankClock::Scope waiting(*env_.clock, Activity::kWaitActivation);
      return activations_in_.Receive(micro_batch);
    }
    case Op::kRecvGradient: {
      RankClock::Scope waiting(*env_.clock, Activity::kWaitGradient);
      return gradients_in_.Receive(micro_batch);
    }
    case Op::kReduceGradients:
      PENSTOCK_RETURN_IF_ERROR(FinishLosses());
      return options.reduce_gradients();
    case Op::kOptimizerStep:
      return options.optimizer_step();
  }
  return absl::InternalError("an instruction that the worker doesn't know");
}

absl::Status StageExecutor::Forward(int micro_batch, const RunOptions& options) {
  // Without a backward pass the slot is free again when the call returns.
  const auto slot = std::find(slot_micro_batch_.begin(), slot_micro_batch_.end(), -1);
  PENSTOCK_CHECK(slot != slot_micro_batch_.end());
  ForwardArgs args;
  args.training = !options.validation;
  args.loss_later = true;
  const bool reads = plan_.first_stage() || plan_.last_stage();
  const SampleWindow window = options.samples(micro_batch);
  args.first_sample = window.begin;
  if (reads) {
    RankClock::Scope reading(*env_.clock, Activity::kData);
    // The file is the same for every try.
    PENSTOCK_RETURN_IF_ERROR(
        MarkPermanent(options.validation ? env_.reader->ReadValidation(window) : env_.reader->ReadTraining(window)));
    if (plan_.first_stage()) args.tokens = env_.reader->tokens();
    if (plan_.last_stage()) args.targets = env_.reader->targets();
  }
  if (!plan_.first_stage()) args.input = activations_in_.Message(micro_batch);
  if (!plan_.last_stage()) {
    RankClock::Scope waiting(*env_.clock, Activity::kWaitSend);
    PENSTOCK_ASSIGN_OR_RETURN(args.output, activations_out_.Acquire(micro_batch));
  }
  {
    RankClock::Scope computing(*env_.clock, Activity::kCompute);
    const absl::StatusOr<LossSum> result =
        env_.model->Forward(static_cast<int>(slot - slot_micro_batch_.begin()), args);
    // A token outside the vocabulary stays where it is; a tensor rank that went away is replaced.
    if (absl::IsInvalidArgument(result.status())) return MarkPermanent(result.status());
    PENSTOCK_RETURN_IF_ERROR(result.status());
  }
  if (!options.validation) *slot = micro_batch;
  if (!plan_.first_stage()) PENSTOCK_RETURN_IF_ERROR(activations_in_.Release(micro_batch));
  if (!plan_.last_stage()) return absl::OkStatus();
  losses_[micro_batch] = {.samples_begin = window.begin, .samples_end = window.end};
  awaited_.push_back(micro_batch);
  return absl::OkStatus();
}

absl::Status StageExecutor::FinishLosses() {
  if (awaited_.empty()) return absl::OkStatus();
  // Until the device has computed all that it was given.
  RankClock::Scope computing(*env_.clock, Activity::kCompute);
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<LossSum> sums, env_.model->TakeLosses());
  PENSTOCK_CHECK(sums.size() == awaited_.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    MicroBatchLoss& loss = losses_[awaited_[i]];
    loss.loss_sum = sums[i].loss;
    loss.target_count = sums[i].target_count;
    if (!std::isfinite(loss.loss_sum)) {
      return MarkPermanent(
          absl::FailedPreconditionError(absl::StrCat("the loss is not finite (samples ", loss.samples_begin, " to ",
                                                     loss.samples_end - 1, "); a lower learning rate may help")));
    }
  }
  awaited_.clear();
  return absl::OkStatus();
}

absl::Status StageExecutor::Backward(int micro_batch) {
  const auto slot = std::find(slot_micro_batch_.begin(), slot_micro_batch_.end(), micro_batch);
  PENSTOCK_CHECK(slot != slot_micro_batch_.end());
  std::span<const std::byte> grad_output;
  std::span<std::byte> grad_input;
  if (!plan_.last_stage()) grad_output = gradients_in_.Message(micro_batch);
  if (!plan_.first_stage()) {
    RankClock::Scope waiting(*env_.clock, Activity::kWaitSend);
    PENSTOCK_ASSIGN_OR_RETURN(grad_input, gradients_out_.Acquire(micro_batch));
  }
  {
    RankClock::Scope computing(*env_.clock, Activity::kCompute);
    PENSTOCK_RETURN_IF_ERROR(
        env_.model->Backward(static_cast<int>(slot - slot_micro_batch_.begin()), grad_output, grad_input));
  }
  *slot = -1;
  return plan_.last_stage() ? absl::OkStatus() : gradients_in_.Release(micro_batch);
}

}  // namespace penstock
