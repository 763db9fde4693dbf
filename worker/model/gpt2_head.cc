#include "worker/model/gpt2_head.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/model/head_rows.h"

namespace penstock {
namespace {

Gpt2Head::Activations LayOut(const Gpt2Shape& shape, std::byte* base, int64_t* bytes) {
  TensorLayout layout(base);
  Gpt2Head::Activations activations{};
  activations.x = layout.Add(shape.type, shape.boundary_elements());
  activations.mean = layout.AddFloats(shape.rows());
  activations.rstd = layout.AddFloats(shape.rows());
  activations.norm_grad = layout.Add(shape.type, shape.boundary_elements());
  *bytes = layout.bytes();
  return activations;
}

}  // namespace

Gpt2Head::Gpt2Head(const Gpt2Shape& shape, Backend* backend) : shape_(shape), backend_(backend) {
  LayOut(shape_, nullptr, &activation_bytes_);
}

absl::StatusOr<std::unique_ptr<Gpt2Head>> Gpt2Head::Create(const Gpt2Shape& shape, Backend* backend) {
  std::unique_ptr<Gpt2Head> head(new Gpt2Head(shape, backend));
  PENSTOCK_ASSIGN_OR_RETURN(
      head->norm_, backend->CreateLayerNorm(
                       {.rows = shape.rows(), .width = shape.hidden, .epsilon = shape.epsilon, .type = shape.type}));
  const int64_t rows_max = HeadRowsMax(/*gpu=*/!backend->host_memory());
  for (int64_t begin = 0; begin < shape.rows(); begin += rows_max) {
    Chunk chunk;
    chunk.begin = begin;
    chunk.rows = std::min(rows_max, shape.rows() - begin);
    PENSTOCK_ASSIGN_OR_RETURN(chunk.head, backend->CreateLinearCrossEntropy({.rows = chunk.rows,
                                                                             .in = shape.hidden,
                                                                             .vocab_size = shape.vocab_size,
                                                                             .vocab_begin = shape.vocab.begin,
                                                                             .vocab_end = shape.vocab.end,
                                                                             .ranks = shape.tensor.degree,
                                                                             .type = shape.type}));
    head->chunks_.push_back(std::move(chunk));
  }
  return head;
}

Gpt2Head::Activations Gpt2Head::ActivationsAt(std::byte* region) const {
  int64_t bytes = 0;
  return LayOut(shape_, region, &bytes);
}

// The first chunk has the most rows.
int64_t Gpt2Head::logits_bytes() const { return chunks_.front().head->logits_bytes(); }

int64_t Gpt2Head::reductions_bytes() const {
  return shape_.tensor.degree * chunks_.front().rows * static_cast<int64_t>(sizeof(RowReduction));
}

int64_t Gpt2Head::workspace_bytes() const {
  int64_t bytes = norm_->workspace_bytes();
  for (const Chunk& chunk : chunks_) bytes = std::max(bytes, chunk.head->workspace_bytes());
  return bytes;
}

absl::Status Gpt2Head::Forward(const Weights& weights, const Activations& a, const Scratch& scratch,
                               const int32_t* targets, const Gradients* gradients, GradientMode mode,
                               LossSum* loss) const {
  const OpContext& context = scratch.context;
  PENSTOCK_RETURN_IF_ERROR(
      norm_->Forward(context, a.x, weights.ln_f_weight, weights.ln_f_bias, scratch.norm, a.mean, a.rstd));
  const int64_t row_bytes = shape_.hidden * BytesOf(shape_.type);
  for (const Chunk& chunk : chunks_) {
    const std::byte* norm = static_cast<const std::byte*>(scratch.norm) + chunk.begin * row_bytes;  // (rows, C)
    const int32_t* chunk_targets = targets + chunk.begin;
    RowReduction* mine = scratch.reductions + shape_.tensor.rank * chunk.rows;
    PENSTOCK_RETURN_IF_ERROR(chunk.head->Forward(context, norm, weights.wte, chunk_targets, scratch.logits, mine,
                                                 gradients != nullptr ? HeadPass::kTraining : HeadPass::kEvaluation));
    if (scratch.sum.tensor != nullptr) {
      PENSTOCK_RETURN_IF_ERROR(scratch.sum.tensor->Gather(context, scratch.reductions,
                                                          chunk.rows * static_cast<int64_t>(sizeof(RowReduction))));
    }
    PENSTOCK_RETURN_IF_ERROR(chunk.head->Loss(context, scratch.reductions, chunk_targets, loss,
                                              chunk.begin == 0 ? GradientMode::kWrite : GradientMode::kAdd));
    if (gradients != nullptr) {
      std::byte* norm_grad = static_cast<std::byte*>(a.norm_grad) + chunk.begin * row_bytes;
      PENSTOCK_RETURN_IF_ERROR(chunk.head->Backward(context, norm, weights.wte, scratch.reductions, chunk_targets,
                                                    scratch.logits, norm_grad, gradients->wte,
                                                    chunk.begin == 0 ? mode : GradientMode::kAdd));
    }
  }
  if (gradients == nullptr) return absl::OkStatus();
  return scratch.sum(context, a.norm_grad, shape_.boundary_elements());
}

absl::Status Gpt2Head::Backward(const Weights& weights, const Activations& a, const Scratch& scratch,
                                const Gradients& gradients, void* gradient) const {
  PENSTOCK_RETURN_IF_ERROR(backend_->Zero(scratch.context, gradient, shape_.boundary_bytes()));
  return norm_->Backward(scratch.context, a.x, weights.ln_f_weight, a.mean, a.rstd, a.norm_grad, gradient,
                         gradients.ln_f_weight, gradients.ln_f_bias);
}

absl::Status Gpt2Head::ClearGradients(const OpContext& context, const Gradients& gradients) const {
  for (float* const at : {gradients.ln_f_weight, gradients.ln_f_bias}) {
    PENSTOCK_RETURN_IF_ERROR(backend_->Zero(context, at, shape_.hidden * static_cast<int64_t>(sizeof(float))));
  }
  return absl::OkStatus();
}

}  // namespace penstock
