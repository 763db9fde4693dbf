// One pipeline stage of a model: its weights, gradients and activations, and its forward and backward passes.
//
// What the runtime knows of a model. A family is a parameter table (core/model) plus an implementation of this.
//
//   MemoryPlan plan;
//   PENSTOCK_ASSIGN_OR_RETURN(auto model, CreateStageModel(spec, table, options, &backend, &plan));
//   RegionId mine = plan.AddFloats(MemoryClass::kCommunication, "receive buffers", ...);   // the runtime's own regions
//   PENSTOCK_ASSIGN_OR_RETURN(Arena arena, Arena::Allocate(plan, &backend));
//   model->Bind(arena);                                        // from here on nothing is allocated
//   ... copy pulled weights into model->UntiedWeights() and TiedWeights() ...
//   model->ZeroGradients();                                     // at the start of each step
//   model->Forward(slot, {.tokens = ..., .output = ...});       // per micro-batch, as the schedule says
//   model->Backward(slot, grad_output, grad_input);
//   ... reduce model->UntiedGradients() and TiedGradients(use) ...
//
// A *slot* holds what one micro-batch needs between its forward and its backward pass; the schedule's peak of
// activations in flight says how many there are (core/schedule/schedule.h PeakActivations). Which micro-batch is in
// which slot changes no bit. Gradients are sums over targets, added up over calls; passes of one stage must run in
// micro-batch order, each kind by itself, for the sums to be the same in every schedule.
//
// On the last stage the gradients of the output head (the tied weights and the final norm's input) are computed in
// Forward, because logits are far bigger than their gradient towards the norm: no slot ever holds logits.
//
// With tensor parallelism Forward and Backward also talk to the tensor group, whose ranks run the same calls; boundary
// tensors are whole, and the same, on each of them.
//
// Thread-safety: none; one thread runs a stage. Spans returned stay valid as long as the Arena.
#ifndef PENSTOCK_WORKER_MODEL_STAGE_MODEL_H_
#define PENSTOCK_WORKER_MODEL_STAGE_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/data_type.h"
#include "core/layout/tensor_shard.h"
#include "core/layout/zero_partition.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"
#include "worker/model/memory_plan.h"
#include "worker/model/tensor_group.h"
#include "worker/ops/backend.h"

namespace penstock {

struct StageOptions {
  // Blocks of the table that this stage runs.
  BlockRange blocks;
  // Samples in a micro-batch; every call has exactly this many.
  int64_t micro_batch_size = 0;
  // Micro-batches in flight, at least 1.
  int slots = 1;
  // Its place in the tensor group.
  TensorShard tensor = {};
  // ZeRO 2: no gradient is kept. Each block's goes to the sink as soon as its backward pass has added it up, on the
  // last stage the output head's at the end of Forward; the memory is one bucket's.
  bool bucketed = false;
  // Of weights, activations and their gradients; parameters' gradients are fp32.
  DataType type = DataType::kFloat32;
  // In training passes: the probability of an element of the embedding, or of what half a layer adds to the residual
  // stream, to be dropped; and what the choice depends on beside the sample (core/random/dropout_rule.h).
  double dropout = 0;
  uint64_t seed = 0;
};

struct ForwardArgs {
  // First stage: (B, T).
  std::span<const int32_t> tokens = {};
  // Last stage: (B, T), the token after each one; kIgnoredTarget (-1) counts for nothing.
  std::span<const int32_t> targets = {};
  // Other stages than the first: (B, T, C). May be InputBuffer(slot), which saves a copy.
  std::span<const std::byte> input = {};
  // Other stages than the last: (B, T, C), written.
  std::span<std::byte> output = {};
  // The micro-batch's first sample, counted over the whole job; the others follow. Of use where something is dropped.
  uint64_t first_sample = 0;
  // False in validation: no gradient is touched and the slot is free again when the call returns.
  bool training = true;
  // On the last stage: leave the loss with the device, for TakeLosses. It costs the device a pause to ask for each.
  bool loss_later = false;
};

// The two places where a tied parameter is used, each with a gradient of its own, so that they are added in one order
// whatever the depth: embedding part + head part.
enum class TiedUse { kEmbedding, kHead };

// The gradients of one block from one micro-batch (StageOptions::bucketed), until the sink returns. Of each block it is
// the same object in every micro-batch.
struct GradientBucket {
  // First what stands in these stretches of the untied memory, then all of the tied parameter's from `tied`, if any.
  std::span<float> gradients;
  std::vector<ElementRange> untied;
  std::optional<TiedUse> tied;
};
using BucketSink = std::function<absl::Status(const GradientBucket&)>;

class StageModel {
 public:
  StageModel() = default;
  StageModel(const StageModel&) = delete;
  StageModel& operator=(const StageModel&) = delete;
  virtual ~StageModel() = default;

  // Takes the memory that the constructor planned. Called once, before anything below. `tensor` outlives the model, and
  // its place is that of the options; null without tensor parallelism.
  virtual void Bind(const Arena& arena, TensorGroup* tensor = nullptr) = 0;

  // What of the canonical space it uses; first and last tell where it stands in the pipeline.
  virtual const StageParameters& parameters() const = 0;
  virtual DataType type() const = 0;
  // Of a micro-batch's boundary tensor, (B, T, C) of type(): sizes of input, output and their gradients.
  virtual int64_t boundary_bytes() const = 0;
  // B * T.
  virtual int64_t tokens_per_micro_batch() const = 0;
  virtual int slots() const = 0;

  // The memory of parameters().untied and .tied: element i is the list's i-th element. Empty where the list is.
  // Weights are of type().
  virtual std::span<std::byte> UntiedWeights() = 0;
  virtual std::span<std::byte> TiedWeights() = 0;
  virtual std::span<float> UntiedGradients() = 0;
  // From one use. The embedding's are on the first stage, the head's on the last; with one stage there are both.
  virtual std::span<float> TiedGradients(TiedUse use) = 0;
  // Before a step's first micro-batch: what the passes then add up starts at zero. They do it themselves, when they
  // come to it; gradients are whole when a backward pass has run.
  virtual void ZeroGradients() = 0;
  // Called before the passes after ZeroGradients give the device anything that writes to gradients, at the last moment:
  // for who still reads them until then. May be empty.
  virtual void SetGradientGuard(std::function<absl::Status()> guard) = 0;
  // Of a bucketed stage, whose Untied- and TiedGradients are empty. Called in Forward and Backward, which end with its
  // error; always in the order of the passes, so that it may be a collective.
  virtual void SetBucketSink(BucketSink sink) = 0;

  // Where the slot keeps its input, (B, T, C): a receive may go straight into it while the slot is free. Empty on the
  // first stage.
  virtual std::span<std::byte> InputBuffer(int slot) = 0;

  // Runs a micro-batch forward into a free slot. On the last stage returns the sum of the losses and the number of
  // targets; elsewhere, and where it is to come later, zeros. INVALID_ARGUMENT for a token outside the vocabulary or
  // spans of a wrong size. Tokens and targets may still be read by the device when the call returns.
  virtual absl::StatusOr<LossSum> Forward(int slot, const ForwardArgs& args) = 0;
  // Those that were left for later since the last call, in the order of the calls. Waits for the device.
  virtual absl::StatusOr<std::vector<LossSum>> TakeLosses() = 0;

  // Runs the slot's micro-batch backward, which frees the slot. grad_output (B, T, C) is empty on the last stage,
  // grad_input (B, T, C), written, on the first. FAILED_PRECONDITION when the slot holds no forward pass.
  virtual absl::Status Backward(int slot, std::span<const std::byte> grad_output, std::span<std::byte> grad_input) = 0;

  // Frees all slots and forgets losses: after an aborted step.
  virtual void Reset() = 0;
};

// The stage of `spec`'s family. Adds its regions to `plan` and creates its operations; nothing is allocated until the
// plan is. `backend` must outlive it; `table` is copied from. INVALID_ARGUMENT for options or sizes that can't be.
absl::StatusOr<std::unique_ptr<StageModel>> CreateStageModel(const v1::ModelSpec& spec, const ParameterTable& table,
                                                             const StageOptions& options, Backend* backend,
                                                             MemoryPlan* plan);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_STAGE_MODEL_H_
