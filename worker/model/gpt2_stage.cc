#include "worker/model/gpt2_stage.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/model/branch_dropout.h"
#include "worker/model/gpt2_head.h"
#include "worker/model/gpt2_layer.h"
#include "worker/model/gpt2_shape.h"
#include "worker/model/stage_parameters_memory.h"
#include "worker/ops/token_checks.h"

namespace penstock {
namespace {

absl::Status CheckSize(const char* what, size_t size, int64_t expected, const char* unit = "bytes") {
  if (static_cast<int64_t>(size) == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " has ", size, " ", unit, "; this stage expects ", expected));
}

// Losses that the device keeps before the host fetches them: more than steps have micro-batches, mostly.
constexpr int64_t kLossesMax = 64;

class Gpt2Stage : public StageModel {
 public:
  Gpt2Stage(const Gpt2Shape& shape, const ParameterTable& table, const StageOptions& options,
            const StageParameters& parameters, Backend* backend, MemoryPlan* plan)
      : shape_(shape),
        table_(table),
        options_(options),
        backend_(backend),
        memory_(table, parameters, options.type, options.bucketed, plan) {}

  // Creates the operations and plans the rest of the memory.
  absl::Status Plan(MemoryPlan* plan);

  void Bind(const Arena& arena, TensorGroup* tensor) override;
  const StageParameters& parameters() const override { return memory_.stage(); }
  DataType type() const override { return shape_.type; }
  int64_t boundary_bytes() const override { return shape_.boundary_bytes(); }
  int64_t tokens_per_micro_batch() const override { return shape_.rows(); }
  int slots() const override { return options_.slots; }
  std::span<std::byte> UntiedWeights() override { return memory_.untied_weights(); }
  std::span<std::byte> TiedWeights() override { return memory_.tied_weights(); }
  std::span<float> UntiedGradients() override { return memory_.untied_gradients(); }
  std::span<float> TiedGradients(TiedUse use) override {
    return use == TiedUse::kEmbedding ? memory_.embedding_gradients() : memory_.head_gradients();
  }
  void ZeroGradients() override { zero_first_ = true; }
  void SetGradientGuard(std::function<absl::Status()> guard) override { guard_ = std::move(guard); }
  void SetBucketSink(BucketSink sink) override { sink_ = std::move(sink); }
  std::span<std::byte> InputBuffer(int slot) override;
  absl::StatusOr<LossSum> Forward(int slot, const ForwardArgs& args) override;
  absl::StatusOr<std::vector<LossSum>> TakeLosses() override;
  absl::Status Backward(int slot, std::span<const std::byte> grad_output, std::span<std::byte> grad_input) override;
  void Reset() override;

 private:
  struct Slot {
    RegionId region;
    RegionId tokens_region;
    bool busy = false;
    uint64_t first_sample = 0;  // of its micro-batch
    // Set by Bind.
    int32_t* tokens = nullptr;  // (B, T), on the first stage
    std::vector<Gpt2Layer::Activations> layers;
    Gpt2Head::Activations head{};
    void* input = nullptr;  // (B, T, C): the first layer's x, or the head's
  };

  bool first() const { return memory_.stage().first; }
  bool last() const { return memory_.stage().last; }
  int64_t SlotBytes() const;
  void BindSlot(const Arena& arena, Slot* slot);
  absl::Status CheckForward(int slot, const ForwardArgs& args) const;
  absl::Status ReadInput(const ForwardArgs& args, Slot* slot);
  // Before anything is added to gradients, which ZeroGradients may have asked to clear.
  absl::Status BeginGradients();
  absl::Status HeadForward(const Slot& slot, const ForwardArgs& args);
  absl::Status FetchLosses();
  absl::Status BackwardInPlace(const Slot& slot, void* gradient);
  // Runs `add`, which adds to the gradients of `bucket`. Of a bucketed stage they begin at zero and go to the sink.
  template <typename Add>
  absl::Status InBucket(const GradientBucket& (Gpt2Stage::*bucket)(int) const, int block, const Add& add);
  const GradientBucket& BlockBucket(int block) const { return memory_.BlockBucket(block); }
  const GradientBucket& HeadBucket(int) const { return memory_.HeadBucket(); }
  const void* Weight(const std::string& name) const;
  float* Gradient(const std::string& name) const;
  // Of a training pass, else null.
  BranchDropout DropoutOf(const Slot& slot, bool training) const {
    return {.dropout = training ? dropout_.get() : nullptr, .first_sample = slot.first_sample};
  }
  Gpt2Layer::Scratch LayerScratch(const BranchDropout& dropout) const {
    return {narrow_, wide_, context_, sum_, dropout};
  }
  Gpt2Head::Scratch HeadScratch() const { return {narrow_, wide_, reductions_, context_, sum_}; }

  // Constant after Plan.
  const Gpt2Shape shape_;
  const ParameterTable table_;
  const StageOptions options_;
  Backend* const backend_;
  std::unique_ptr<Dropout> dropout_;  // null: nothing is dropped
  std::unique_ptr<Embedding> embedding_;
  std::unique_ptr<Gpt2Layer> layer_;
  std::unique_ptr<Gpt2Head> head_;
  std::vector<int> layers_;  // this stage's layers, by number
  RegionId narrow_region_;
  RegionId wide_region_;
  RegionId gradient_region_;
  RegionId reductions_region_;
  RegionId targets_region_;
  RegionId losses_region_;
  RegionId sum_region_;
  RegionId workspace_region_;

  // Constant after Bind.
  StageParametersMemory memory_;
  std::vector<Gpt2Layer::Weights> layer_weights_;
  std::vector<Gpt2Layer::Gradients> layer_gradients_;
  Gpt2Head::Weights head_weights_{};
  Gpt2Head::Gradients head_gradients_{};
  const void* wte_ = nullptr;
  const void* wpe_ = nullptr;
  float* wte_gradient_ = nullptr;
  float* wpe_gradient_ = nullptr;
  void* narrow_ = nullptr;    // (B, T, C)
  void* wide_ = nullptr;      // a layer's inner gradients, or a part of the logits
  void* gradient_ = nullptr;  // (B, T, C): first stage, whose caller has no place for it
  RowReduction* reductions_ = nullptr;
  int32_t* targets_ = nullptr;  // (B, T), where the device can't read the caller's
  LossSum* losses_ = nullptr;   // (kLossesMax)
  OpContext context_;
  GroupSum sum_;
  BucketSink sink_;
  std::function<absl::Status()> guard_;

  bool zero_first_ = false;
  // Whose gradients nothing was added to since ZeroGradients: one flag a layer, one for the head.
  std::vector<char> layers_cleared_;
  bool head_cleared_ = false;
  // Losses in losses_, and those that were there before and are the host's now.
  int64_t losses_on_device_ = 0;
  std::vector<LossSum> losses_taken_;
  std::unique_ptr<DeviceMemory> host_losses_;  // (kLossesMax), for the way from the device
  std::vector<Slot> slots_;
};

absl::Status Gpt2Stage::Plan(MemoryPlan* plan) {
  const std::span<const Block> blocks = table_.blocks();
  for (int i = options_.blocks.begin; i < options_.blocks.end; ++i) {
    if (blocks[static_cast<size_t>(i)].kind == BlockKind::kLayer) layers_.push_back(i - 1);
  }
  int64_t wide = 0;
  int64_t workspace = 0;
  if (options_.dropout > 0) {
    PENSTOCK_ASSIGN_OR_RETURN(dropout_, backend_->CreateDropout({.samples = shape_.batch,
                                                                 .elements = shape_.seq_length * shape_.hidden,
                                                                 .rule = DropoutRuleOf(options_.dropout, options_.seed),
                                                                 .type = shape_.type}));
    workspace = std::max(workspace, dropout_->workspace_bytes());
  }
  if (first()) {
    PENSTOCK_ASSIGN_OR_RETURN(embedding_, backend_->CreateEmbedding({.batch = shape_.batch,
                                                                     .seq_length = shape_.seq_length,
                                                                     .vocab_size = shape_.vocab_size,
                                                                     .hidden = shape_.hidden,
                                                                     .type = shape_.type,
                                                                     .vocab_begin = shape_.vocab.begin,
                                                                     .vocab_end = shape_.vocab.end}));
    workspace = std::max(workspace, embedding_->workspace_bytes());
  }
  if (!layers_.empty()) {
    PENSTOCK_ASSIGN_OR_RETURN(layer_, Gpt2Layer::Create(shape_, backend_));
    wide = std::max(wide, layer_->wide_bytes());
    workspace = std::max(workspace, layer_->workspace_bytes());
  }
  if (last()) {
    PENSTOCK_ASSIGN_OR_RETURN(head_, Gpt2Head::Create(shape_, backend_));
    wide = std::max(wide, head_->logits_bytes());
    workspace = std::max(workspace, head_->workspace_bytes());
  }
  for (int i = 0; i < options_.slots; ++i) {
    Slot slot;
    slot.region = plan->Add(MemoryClass::kActivation, "slot " + std::to_string(i), SlotBytes());
    slot.tokens_region = plan->Add(MemoryClass::kActivation, "slot " + std::to_string(i) + " tokens",
                                   first() ? shape_.rows() * static_cast<int64_t>(sizeof(int32_t)) : 0);
    slots_.push_back(std::move(slot));
  }
  narrow_region_ = plan->Add(MemoryClass::kWorkspace, "(B, T, C)", shape_.boundary_bytes());
  wide_region_ = plan->Add(MemoryClass::kWorkspace, "inner gradients and logits", wide);
  gradient_region_ = plan->Add(MemoryClass::kWorkspace, "gradient of the input", first() ? shape_.boundary_bytes() : 0);
  reductions_region_ = plan->Add(MemoryClass::kWorkspace, "reductions of rows of logits",
                                 head_ != nullptr ? head_->reductions_bytes() : 0);
  targets_region_ = plan->Add(MemoryClass::kWorkspace, "targets",
                              last() && !backend_->host_memory() ? shape_.rows() * int64_t{sizeof(int32_t)} : 0);
  losses_region_ =
      plan->Add(MemoryClass::kWorkspace, "losses", last() ? kLossesMax * static_cast<int64_t>(sizeof(LossSum)) : 0);
  if (last()) {
    PENSTOCK_ASSIGN_OR_RETURN(host_losses_, backend_->AllocateHost(kLossesMax * static_cast<int64_t>(sizeof(LossSum))));
  }
  const bool widens = shape_.tensor.degree > 1 && shape_.type != DataType::kFloat32;
  sum_region_ =
      plan->AddFloats(MemoryClass::kWorkspace, "sums over the tensor group", widens ? shape_.boundary_elements() : 0);
  workspace_region_ = plan->Add(MemoryClass::kWorkspace, "operations", workspace);
  layers_cleared_.resize(layers_.size());
  return absl::OkStatus();
}

int64_t Gpt2Stage::SlotBytes() const {
  int64_t bytes = 0;
  if (layer_ != nullptr) bytes += static_cast<int64_t>(layers_.size()) * layer_->activation_bytes();
  if (head_ != nullptr) bytes += head_->activation_bytes();
  // An embedding alone: its output only passes through.
  return std::max(bytes, shape_.boundary_bytes());
}

const void* Gpt2Stage::Weight(const std::string& name) const {
  const Parameter* parameter = table_.Find(name);
  PENSTOCK_CHECK(parameter != nullptr);
  return memory_.Weight(*parameter);
}

float* Gpt2Stage::Gradient(const std::string& name) const {
  const Parameter* parameter = table_.Find(name);
  PENSTOCK_CHECK(parameter != nullptr);
  return memory_.Gradient(*parameter);
}

void Gpt2Stage::Bind(const Arena& arena, TensorGroup* tensor) {
  PENSTOCK_CHECK(tensor == nullptr ? shape_.tensor.degree == 1 : tensor->shard() == shape_.tensor);
  // A group of one has nothing to add up.
  sum_ = {.tensor = shape_.tensor.degree == 1 ? nullptr : tensor,
          .backend = backend_,
          .type = shape_.type,
          .wide = arena.Floats(sum_region_).data()};
  memory_.Bind(arena);
  for (const int layer : layers_) {
    const std::string prefix = "h." + std::to_string(layer) + ".";
    layer_weights_.push_back(
        Gpt2Layer::Weights::Find([&](std::string_view name) { return Weight(prefix + std::string(name)); }));
    layer_gradients_.push_back(
        Gpt2Layer::Gradients::Find([&](std::string_view name) { return Gradient(prefix + std::string(name)); }));
  }
  if (first()) {
    wte_ = Weight("wte");
    wpe_ = Weight("wpe");
    wte_gradient_ = memory_.embedding_gradients().data();
    wpe_gradient_ = Gradient("wpe");
  }
  if (last()) {
    head_weights_ = {Weight("ln_f.weight"), Weight("ln_f.bias"), Weight("wte")};
    head_gradients_ = {Gradient("ln_f.weight"), Gradient("ln_f.bias"), memory_.head_gradients().data()};
  }
  narrow_ = arena.Bytes(narrow_region_).data();
  wide_ = arena.Bytes(wide_region_).data();
  gradient_ = arena.Bytes(gradient_region_).data();
  if (last() && !backend_->host_memory()) {
    targets_ = reinterpret_cast<int32_t*>(arena.Bytes(targets_region_).data());
  }
  losses_ = reinterpret_cast<LossSum*>(arena.Bytes(losses_region_).data());
  reductions_ = reinterpret_cast<RowReduction*>(arena.Bytes(reductions_region_).data());
  const std::span<std::byte> workspace = arena.Bytes(workspace_region_);
  context_ = {.workspace = workspace.data(), .workspace_bytes = static_cast<int64_t>(workspace.size())};
  for (Slot& slot : slots_) BindSlot(arena, &slot);
}

void Gpt2Stage::BindSlot(const Arena& arena, Slot* slot) {
  std::byte* at = arena.Bytes(slot->region).data();
  slot->input = at;
  for (size_t i = 0; i < layers_.size(); ++i) {
    slot->layers.push_back(layer_->ActivationsAt(at));
    at += layer_->activation_bytes();
  }
  if (head_ != nullptr) slot->head = head_->ActivationsAt(at);
  if (!slot->layers.empty()) {
    slot->input = slot->layers.front().x;
  } else if (head_ != nullptr) {
    slot->input = slot->head.x;
  }
  slot->tokens = reinterpret_cast<int32_t*>(arena.Bytes(slot->tokens_region).data());
}

// A layer's gradients are written by its first micro-batch instead.
absl::Status Gpt2Stage::BeginGradients() {
  if (!std::exchange(zero_first_, false)) return absl::OkStatus();
  if (guard_) PENSTOCK_RETURN_IF_ERROR(guard_());
  if (options_.bucketed) return absl::OkStatus();  // each bucket is cleared when its turn comes
  const auto zero = [this](float* at, int64_t elements) {
    return backend_->Zero(context_, at, elements * static_cast<int64_t>(sizeof(float)));
  };
  if (first()) {
    PENSTOCK_RETURN_IF_ERROR(zero(wte_gradient_, static_cast<int64_t>(memory_.embedding_gradients().size())));
    PENSTOCK_RETURN_IF_ERROR(zero(wpe_gradient_, table_.Find("wpe")->size()));
  }
  std::fill(layers_cleared_.begin(), layers_cleared_.end(), true);
  if (last()) PENSTOCK_RETURN_IF_ERROR(head_->ClearGradients(context_, head_gradients_));
  head_cleared_ = true;
  return absl::OkStatus();
}

std::span<std::byte> Gpt2Stage::InputBuffer(int slot) {
  if (first()) return {};
  return {static_cast<std::byte*>(slots_.at(static_cast<size_t>(slot)).input),
          static_cast<size_t>(shape_.boundary_bytes())};
}

absl::Status Gpt2Stage::CheckForward(int slot, const ForwardArgs& args) const {
  if (slot < 0 || slot >= options_.slots) {
    return absl::InvalidArgumentError(absl::StrCat("slot ", slot, " of ", options_.slots));
  }
  if (slots_[static_cast<size_t>(slot)].busy) {
    return absl::FailedPreconditionError(
        absl::StrCat("slot ", slot, " still holds a micro-batch whose backward pass hasn't run"));
  }
  PENSTOCK_RETURN_IF_ERROR(CheckSize("tokens", args.tokens.size(), first() ? shape_.rows() : 0, "elements"));
  PENSTOCK_RETURN_IF_ERROR(CheckSize("input", args.input.size(), first() ? 0 : shape_.boundary_bytes()));
  PENSTOCK_RETURN_IF_ERROR(CheckSize("targets", args.targets.size(), last() ? shape_.rows() : 0, "elements"));
  PENSTOCK_RETURN_IF_ERROR(CheckTokens(args.tokens, shape_.seq_length, shape_.vocab_size));
  PENSTOCK_RETURN_IF_ERROR(CheckTargets(args.targets, shape_.vocab_size));
  return CheckSize("output", args.output.size(), last() ? 0 : shape_.boundary_bytes());
}

absl::Status Gpt2Stage::ReadInput(const ForwardArgs& args, Slot* slot) {
  if (first()) {
    PENSTOCK_RETURN_IF_ERROR(
        backend_->Copy(context_, args.tokens.data(), slot->tokens, static_cast<int64_t>(args.tokens.size_bytes())));
    const void* positions = shape_.adds_replicated() ? wpe_ : nullptr;
    PENSTOCK_RETURN_IF_ERROR(embedding_->Forward(context_, slot->tokens, wte_, positions, slot->input));
    PENSTOCK_RETURN_IF_ERROR(sum_(context_, slot->input, shape_.boundary_elements()));
    return DropoutOf(*slot, args.training).Forward(context_, kEmbeddingSite, slot->input);
  }
  if (args.input.data() == slot->input) return absl::OkStatus();
  return backend_->Copy(context_, args.input.data(), slot->input, static_cast<int64_t>(args.input.size_bytes()));
}

absl::StatusOr<LossSum> Gpt2Stage::Forward(int slot_index, const ForwardArgs& args) {
  PENSTOCK_RETURN_IF_ERROR(CheckForward(slot_index, args));
  Slot& slot = slots_[static_cast<size_t>(slot_index)];
  slot.first_sample = args.first_sample;
  PENSTOCK_RETURN_IF_ERROR(ReadInput(args, &slot));
  const Gpt2Layer::Scratch scratch = LayerScratch(DropoutOf(slot, args.training));
  for (size_t i = 0; i < slot.layers.size(); ++i) {
    void* y = i + 1 < slot.layers.size() ? slot.layers[i + 1].x
              : last()                   ? slot.head.x
                                         : static_cast<void*>(args.output.data());
    PENSTOCK_RETURN_IF_ERROR(backend_->Pace(context_));
    PENSTOCK_RETURN_IF_ERROR(layer_->Forward(layers_[i], layer_weights_[i], slot.layers[i], scratch, y));
  }
  LossSum loss;
  if (last()) {
    PENSTOCK_RETURN_IF_ERROR(backend_->Pace(context_));
    PENSTOCK_RETURN_IF_ERROR(HeadForward(slot, args));
    if (!args.loss_later) {
      PENSTOCK_ASSIGN_OR_RETURN(const std::vector<LossSum> losses, TakeLosses());
      loss = losses.back();
    }
  } else if (slot.layers.empty()) {
    PENSTOCK_RETURN_IF_ERROR(
        backend_->Copy(context_, slot.input, args.output.data(), static_cast<int64_t>(args.output.size_bytes())));
  }
  slot.busy = args.training;
  return loss;
}

template <typename Add>
absl::Status Gpt2Stage::InBucket(const GradientBucket& (Gpt2Stage::*bucket_of)(int) const, int block, const Add& add) {
  if (!options_.bucketed) return add();
  const GradientBucket& bucket = (this->*bucket_of)(block);
  PENSTOCK_RETURN_IF_ERROR(
      backend_->Zero(context_, bucket.gradients.data(), static_cast<int64_t>(bucket.gradients.size_bytes())));
  PENSTOCK_RETURN_IF_ERROR(add());
  return sink_(bucket);
}

absl::Status Gpt2Stage::HeadForward(const Slot& slot, const ForwardArgs& args) {
  if (args.training) PENSTOCK_RETURN_IF_ERROR(BeginGradients());
  if (losses_on_device_ == kLossesMax) PENSTOCK_RETURN_IF_ERROR(FetchLosses());
  const GradientMode mode =
      args.training && std::exchange(head_cleared_, false) ? GradientMode::kWrite : GradientMode::kAdd;
  const int32_t* targets = args.targets.data();
  if (targets_ != nullptr) {
    PENSTOCK_RETURN_IF_ERROR(
        backend_->Copy(context_, targets, targets_, static_cast<int64_t>(args.targets.size_bytes())));
    targets = targets_;
  }
  LossSum* const loss = losses_ + losses_on_device_++;
  const auto forward = [&](const Gpt2Head::Gradients* gradients) {
    return head_->Forward(head_weights_, slot.head, HeadScratch(), targets, gradients, mode, loss);
  };
  if (!args.training) return forward(nullptr);
  return InBucket(&Gpt2Stage::HeadBucket, 0, [&] { return forward(&head_gradients_); });
}

absl::Status Gpt2Stage::FetchLosses() {
  const int64_t count = std::exchange(losses_on_device_, 0);
  PENSTOCK_RETURN_IF_ERROR(
      backend_->Copy(context_, losses_, host_losses_->data(), count * static_cast<int64_t>(sizeof(LossSum))));
  PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize(context_));
  const auto* const fetched = reinterpret_cast<const LossSum*>(host_losses_->data());
  losses_taken_.insert(losses_taken_.end(), fetched, fetched + count);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<LossSum>> Gpt2Stage::TakeLosses() {
  if (losses_on_device_ > 0) PENSTOCK_RETURN_IF_ERROR(FetchLosses());
  return std::exchange(losses_taken_, {});
}

absl::Status Gpt2Stage::Backward(int slot_index, std::span<const std::byte> grad_output,
                                 std::span<std::byte> grad_input) {
  if (slot_index < 0 || slot_index >= options_.slots) {
    return absl::InvalidArgumentError(absl::StrCat("slot ", slot_index, " of ", options_.slots));
  }
  Slot& slot = slots_[static_cast<size_t>(slot_index)];
  if (!slot.busy) return absl::FailedPreconditionError(absl::StrCat("slot ", slot_index, " holds no forward pass"));
  const int64_t boundary = shape_.boundary_bytes();
  PENSTOCK_RETURN_IF_ERROR(CheckSize("grad_output", grad_output.size(), last() ? 0 : boundary));
  PENSTOCK_RETURN_IF_ERROR(CheckSize("grad_input", grad_input.size(), first() ? 0 : boundary));

  void* gradient = first() ? gradient_ : grad_input.data();
  if (!last() && grad_output.data() != gradient) {
    PENSTOCK_RETURN_IF_ERROR(
        backend_->Copy(context_, grad_output.data(), gradient, static_cast<int64_t>(grad_output.size_bytes())));
  }
  PENSTOCK_RETURN_IF_ERROR(BackwardInPlace(slot, gradient));
  slot.busy = false;
  return absl::OkStatus();
}

// gradient (B, T, C): on entry towards the stage's output (ignored on the last stage), on return towards its input.
absl::Status Gpt2Stage::BackwardInPlace(const Slot& slot, void* gradient) {
  PENSTOCK_RETURN_IF_ERROR(BeginGradients());
  const BranchDropout dropout = DropoutOf(slot, /*training=*/true);
  if (last()) {
    PENSTOCK_RETURN_IF_ERROR(InBucket(&Gpt2Stage::BlockBucket, options_.blocks.end - 1, [&] {
      return head_->Backward(head_weights_, slot.head, HeadScratch(), head_gradients_, gradient);
    }));
  }
  for (size_t i = slot.layers.size(); i-- > 0;) {
    PENSTOCK_RETURN_IF_ERROR(backend_->Pace(context_));
    const GradientMode mode = std::exchange(layers_cleared_[i], false) ? GradientMode::kWrite : GradientMode::kAdd;
    PENSTOCK_RETURN_IF_ERROR(InBucket(&Gpt2Stage::BlockBucket, layers_[i] + 1, [&] {
      return layer_->Backward(layers_[i], layer_weights_[i], slot.layers[i], LayerScratch(dropout), layer_gradients_[i],
                              mode, gradient);
    }));
  }
  if (!first()) return absl::OkStatus();
  PENSTOCK_RETURN_IF_ERROR(backend_->Pace(context_));
  PENSTOCK_RETURN_IF_ERROR(dropout.Backward(context_, kEmbeddingSite, gradient, gradient).status());
  return InBucket(&Gpt2Stage::BlockBucket, 0, [&] {
    float* positions = shape_.adds_replicated() ? wpe_gradient_ : nullptr;
    return embedding_->Backward(context_, slot.tokens, gradient, wte_gradient_, positions);
  });
}

void Gpt2Stage::Reset() {
  for (Slot& slot : slots_) slot.busy = false;
  losses_on_device_ = 0;
  losses_taken_.clear();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StageModel>> CreateGpt2Stage(const v1::ModelSpec& spec, const ParameterTable& table,
                                                            const StageOptions& options, Backend* backend,
                                                            MemoryPlan* plan) {
  if (options.micro_batch_size < 1 || options.slots < 1) {
    return absl::InvalidArgumentError(absl::StrCat("a stage needs a positive micro-batch and slots, got ",
                                                   options.micro_batch_size, " and ", options.slots));
  }
  if (spec.heads() == 0 || spec.hidden() % spec.heads() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.heads ", spec.heads(), " doesn't divide model.hidden ", spec.hidden()));
  }
  // Whole heads: the rows of attn.proj follow them.
  if (options.tensor.degree < 1 || spec.heads() % static_cast<uint32_t>(options.tensor.degree) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor degree of ", options.tensor.degree, " doesn't divide model.heads ", spec.heads()));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const StageParameters parameters, ParametersOfStage(table, options.blocks, options.tensor));
  auto stage = std::make_unique<Gpt2Stage>(Gpt2Shape::Of(spec, options.micro_batch_size, options.tensor, options.type),
                                           table, options, parameters, backend, plan);
  PENSTOCK_RETURN_IF_ERROR(stage->Plan(plan));
  return std::unique_ptr<StageModel>(std::move(stage));
}

}  // namespace penstock
