#include "worker/model/gpt2_head.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// Rows of logits at a time: enough for the products to run at full speed, and with GPT-2's vocabulary 200 MB. A
// constant: the gradient's bits depend on it.
constexpr int64_t kHeadRowsMax = 1024;

Gpt2Head::Activations LayOut(const Gpt2Shape& shape, float* base, int64_t* elements) {
  TensorLayout layout;
  const auto tensor = [&](int64_t size) {
    const int64_t offset = layout.Add(size);
    return base == nullptr ? nullptr : base + offset;
  };
  Gpt2Head::Activations activations{};
  activations.x = tensor(shape.boundary_elements());
  activations.mean = tensor(shape.rows());
  activations.rstd = tensor(shape.rows());
  activations.norm_grad = tensor(shape.boundary_elements());
  *elements = layout.elements();
  return activations;
}

}  // namespace

Gpt2Head::Gpt2Head(const Gpt2Shape& shape, Backend* backend) : shape_(shape), backend_(backend) {
  LayOut(shape_, nullptr, &activation_elements_);
}

absl::StatusOr<std::unique_ptr<Gpt2Head>> Gpt2Head::Create(const Gpt2Shape& shape, Backend* backend) {
  std::unique_ptr<Gpt2Head> head(new Gpt2Head(shape, backend));
  PENSTOCK_ASSIGN_OR_RETURN(
      head->norm_, backend->CreateLayerNorm({.rows = shape.rows(), .width = shape.hidden, .epsilon = shape.epsilon}));
  for (int64_t begin = 0; begin < shape.rows(); begin += kHeadRowsMax) {
    Chunk chunk;
    chunk.begin = begin;
    chunk.rows = std::min(kHeadRowsMax, shape.rows() - begin);
    PENSTOCK_ASSIGN_OR_RETURN(
        chunk.project,
        backend->CreateLinear(
            {.rows = chunk.rows, .in = shape.hidden, .out = shape.vocab.size(), .layout = WeightLayout::kOutIn}));
    if (shape.tensor.degree == 1) {
      PENSTOCK_ASSIGN_OR_RETURN(chunk.loss,
                                backend->CreateCrossEntropy({.rows = chunk.rows, .vocab_size = shape.vocab_size}));
    } else {
      PENSTOCK_ASSIGN_OR_RETURN(chunk.split_loss, backend->CreateSplitCrossEntropy({.rows = chunk.rows,
                                                                                    .vocab_size = shape.vocab_size,
                                                                                    .vocab_begin = shape.vocab.begin,
                                                                                    .vocab_end = shape.vocab.end,
                                                                                    .ranks = shape.tensor.degree}));
    }
    head->chunks_.push_back(std::move(chunk));
  }
  return head;
}

Gpt2Head::Activations Gpt2Head::ActivationsAt(float* region) const {
  int64_t elements = 0;
  return LayOut(shape_, region, &elements);
}

int64_t Gpt2Head::logits_elements() const { return std::min(kHeadRowsMax, shape_.rows()) * shape_.vocab.size(); }

int64_t Gpt2Head::reductions_bytes() const {
  if (shape_.tensor.degree == 1) return 0;
  return shape_.tensor.degree * std::min(kHeadRowsMax, shape_.rows()) * static_cast<int64_t>(sizeof(RowReduction));
}

int64_t Gpt2Head::workspace_bytes() const {
  int64_t bytes = norm_->workspace_bytes();
  for (const Chunk& chunk : chunks_) {
    bytes = std::max({bytes, chunk.project->workspace_bytes(),
                      chunk.loss != nullptr ? chunk.loss->workspace_bytes() : chunk.split_loss->workspace_bytes()});
  }
  return bytes;
}

absl::StatusOr<LossSum> Gpt2Head::Loss(const Chunk& chunk, const Scratch& scratch, const int32_t* targets,
                                       bool training) const {
  if (chunk.loss != nullptr) {
    return training ? chunk.loss->ForwardBackward(scratch.context, scratch.logits, targets)
                    : chunk.loss->Forward(scratch.context, scratch.logits, targets);
  }
  RowReduction* mine = scratch.reductions + shape_.tensor.rank * chunk.rows;
  PENSTOCK_RETURN_IF_ERROR(chunk.split_loss->Reduce(scratch.context, scratch.logits, targets, mine));
  PENSTOCK_RETURN_IF_ERROR(scratch.tensor->Gather(scratch.context, scratch.reductions,
                                                  chunk.rows * static_cast<int64_t>(sizeof(RowReduction))));
  return chunk.split_loss->Finish(scratch.context, scratch.reductions, targets, training ? scratch.logits : nullptr);
}

absl::StatusOr<LossSum> Gpt2Head::Forward(const Tensors& weights, const Activations& a, const Scratch& scratch,
                                          const int32_t* targets, const Tensors* gradients) const {
  const OpContext& context = scratch.context;
  PENSTOCK_RETURN_IF_ERROR(
      norm_->Forward(context, a.x, weights.ln_f_weight, weights.ln_f_bias, scratch.norm, a.mean, a.rstd));
  LossSum sum;
  for (const Chunk& chunk : chunks_) {
    const float* norm = scratch.norm + chunk.begin * shape_.hidden;  // (rows, C)
    const int32_t* chunk_targets = targets + chunk.begin;
    PENSTOCK_RETURN_IF_ERROR(chunk.project->Forward(context, norm, weights.wte, nullptr, scratch.logits));
    PENSTOCK_ASSIGN_OR_RETURN(const LossSum part, Loss(chunk, scratch, chunk_targets, gradients != nullptr));
    if (gradients != nullptr) {
      const float* d_logits = scratch.logits;  // (rows, V)
      PENSTOCK_RETURN_IF_ERROR(chunk.project->BackwardWeight(context, norm, d_logits, gradients->wte, nullptr));
      PENSTOCK_RETURN_IF_ERROR(
          chunk.project->BackwardInput(context, d_logits, weights.wte, a.norm_grad + chunk.begin * shape_.hidden));
    }
    sum.loss += part.loss;
    sum.target_count += part.target_count;
  }
  if (gradients != nullptr && scratch.tensor != nullptr) {
    PENSTOCK_RETURN_IF_ERROR(scratch.tensor->Sum(context, a.norm_grad, shape_.boundary_elements()));
  }
  return sum;
}

absl::Status Gpt2Head::Backward(const Tensors& weights, const Activations& a, const Scratch& scratch,
                                const Tensors& gradients, float* gradient) const {
  PENSTOCK_RETURN_IF_ERROR(
      backend_->Zero(scratch.context, gradient, shape_.boundary_elements() * static_cast<int64_t>(sizeof(float))));
  return norm_->Backward(scratch.context, a.x, weights.ln_f_weight, a.mean, a.rstd, a.norm_grad, gradient,
                         gradients.ln_f_weight, gradients.ln_f_bias);
}

}  // namespace penstock
