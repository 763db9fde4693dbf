#include "worker/model/gpt2_layer.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// The activations of a layer at `base` (null is fine when only the size is wanted); *bytes is their size.
Gpt2Layer::Activations LayOut(const Gpt2Shape& shape, std::byte* base, int64_t* bytes) {
  TensorLayout layout(base);
  const auto tensor = [&](int64_t elements) { return layout.Add(shape.type, elements); };
  const int64_t rows = shape.rows();
  const int64_t boundary = shape.boundary_elements();
  Gpt2Layer::Activations activations{};
  activations.x = tensor(boundary);
  activations.ln_1 = tensor(boundary);
  activations.ln_1_mean = layout.AddFloats(rows);
  activations.ln_1_rstd = layout.AddFloats(rows);
  activations.qkv = tensor(3 * rows * shape.attention_width());
  activations.log_sum_exp = layout.AddFloats(rows * shape.heads);
  activations.attention = tensor(rows * shape.attention_width());
  activations.mid = tensor(boundary);
  activations.ln_2 = tensor(boundary);
  activations.ln_2_mean = layout.AddFloats(rows);
  activations.ln_2_rstd = layout.AddFloats(rows);
  activations.fc = tensor(rows * shape.mlp_hidden);
  activations.gelu = tensor(rows * shape.mlp_hidden);
  *bytes = layout.bytes();
  return activations;
}

}  // namespace

Gpt2Layer::Gpt2Layer(const Gpt2Shape& shape, Backend* backend) : shape_(shape), backend_(backend) {
  LayOut(shape_, nullptr, &activation_bytes_);
}

absl::StatusOr<std::unique_ptr<Gpt2Layer>> Gpt2Layer::Create(const Gpt2Shape& shape, Backend* backend) {
  std::unique_ptr<Gpt2Layer> layer(new Gpt2Layer(shape, backend));
  const int64_t rows = shape.rows();
  const int64_t hidden = shape.hidden;
  const int64_t width = shape.attention_width();
  PENSTOCK_ASSIGN_OR_RETURN(
      layer->norm_,
      backend->CreateLayerNorm({.rows = rows, .width = hidden, .epsilon = shape.epsilon, .type = shape.type}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->qkv_, backend->CreateLinear({.rows = rows,
                                                                .in = hidden,
                                                                .out = 3 * width,
                                                                .layout = WeightLayout::kOutIn,
                                                                .has_bias = true,
                                                                .type = shape.type}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->attention_, backend->CreateCausalAttention({.batch = shape.batch,
                                                                               .seq_length = shape.seq_length,
                                                                               .heads = shape.heads,
                                                                               .head_dim = shape.head_dim,
                                                                               .type = shape.type}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->proj_, backend->CreateLinear({.rows = rows,
                                                                 .in = width,
                                                                 .out = hidden,
                                                                 .layout = WeightLayout::kInOut,
                                                                 .has_bias = shape.adds_replicated(),
                                                                 .type = shape.type}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->add_, backend->CreateResidualAdd(shape.boundary_elements(), shape.type));
  PENSTOCK_ASSIGN_OR_RETURN(layer->fc_, backend->CreateLinear({.rows = rows,
                                                               .in = hidden,
                                                               .out = shape.mlp_hidden,
                                                               .layout = WeightLayout::kOutIn,
                                                               .has_bias = true,
                                                               .type = shape.type,
                                                               .gelu = WithGelu::kBehind}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->mlp_proj_, backend->CreateLinear({.rows = rows,
                                                                     .in = shape.mlp_hidden,
                                                                     .out = hidden,
                                                                     .layout = WeightLayout::kInOut,
                                                                     .has_bias = shape.adds_replicated(),
                                                                     .type = shape.type,
                                                                     .gelu = WithGelu::kBefore}));
  return layer;
}

Gpt2Layer::Activations Gpt2Layer::ActivationsAt(std::byte* region) const {
  int64_t bytes = 0;
  return LayOut(shape_, region, &bytes);
}

int64_t Gpt2Layer::wide_bytes() const {
  return shape_.rows() * std::max(3 * shape_.attention_width(), shape_.mlp_hidden) * BytesOf(shape_.type);
}

int64_t Gpt2Layer::workspace_bytes() const {
  return std::max({norm_->workspace_bytes(), qkv_->workspace_bytes(), attention_->workspace_bytes(),
                   proj_->workspace_bytes(), add_->workspace_bytes(), fc_->workspace_bytes(),
                   mlp_proj_->workspace_bytes()});
}

absl::Status Gpt2Layer::Forward(int layer, const Weights& weights, const Activations& a, const Scratch& scratch,
                                void* y) const {
  const OpContext& context = scratch.context;
  PENSTOCK_RETURN_IF_ERROR(
      norm_->Forward(context, a.x, weights.ln_1_weight, weights.ln_1_bias, a.ln_1, a.ln_1_mean, a.ln_1_rstd));
  PENSTOCK_RETURN_IF_ERROR(qkv_->Forward(context, a.ln_1, weights.qkv_weight, weights.qkv_bias, a.qkv));
  PENSTOCK_RETURN_IF_ERROR(attention_->Forward(context, a.qkv, a.attention, a.log_sum_exp));
  // What is summed up over a tensor group can't be added to before, nor can what is dropped from.
  const bool adds = scratch.sum.tensor == nullptr && !scratch.dropout.on() && proj_->adds() && mlp_proj_->adds();
  if (adds) {
    PENSTOCK_RETURN_IF_ERROR(
        proj_->ForwardAdd(context, a.attention, weights.proj_weight, weights.proj_bias, a.x, a.mid));
    PENSTOCK_RETURN_IF_ERROR(
        norm_->Forward(context, a.mid, weights.ln_2_weight, weights.ln_2_bias, a.ln_2, a.ln_2_mean, a.ln_2_rstd));
  } else {
    PENSTOCK_RETURN_IF_ERROR(
        proj_->Forward(context, a.attention, weights.proj_weight, Replicated(weights.proj_bias), scratch.narrow));
    PENSTOCK_RETURN_IF_ERROR(scratch.sum(context, scratch.narrow, shape_.boundary_elements()));
    PENSTOCK_RETURN_IF_ERROR(scratch.dropout.Forward(context, AttentionSite(layer), scratch.narrow));
    PENSTOCK_RETURN_IF_ERROR(norm_->ForwardOfSum(context, a.x, scratch.narrow, a.mid, weights.ln_2_weight,
                                                 weights.ln_2_bias, a.ln_2, a.ln_2_mean, a.ln_2_rstd));
  }
  PENSTOCK_RETURN_IF_ERROR(fc_->ForwardGelu(context, a.ln_2, weights.fc_weight, weights.fc_bias, a.fc, a.gelu));
  if (adds) {
    return mlp_proj_->ForwardAdd(context, a.gelu, weights.mlp_proj_weight, weights.mlp_proj_bias, a.mid, y);
  }
  PENSTOCK_RETURN_IF_ERROR(
      mlp_proj_->Forward(context, a.gelu, weights.mlp_proj_weight, Replicated(weights.mlp_proj_bias), scratch.narrow));
  PENSTOCK_RETURN_IF_ERROR(scratch.sum(context, scratch.narrow, shape_.boundary_elements()));
  PENSTOCK_RETURN_IF_ERROR(scratch.dropout.Forward(context, MlpSite(layer), scratch.narrow));
  return add_->Forward(context, a.mid, scratch.narrow, y);
}

absl::Status Gpt2Layer::Backward(int layer, const Weights& weights, const Activations& activations,
                                 const Scratch& scratch, const Gradients& gradients, GradientMode mode,
                                 void* gradient) const {
  // Biases behind a tensor group's sum are one rank's.
  if (mode == GradientMode::kWrite && !shape_.adds_replicated()) {
    for (float* const bias : {gradients.proj_bias, gradients.mlp_proj_bias}) {
      PENSTOCK_RETURN_IF_ERROR(
          backend_->Zero(scratch.context, bias, shape_.hidden * static_cast<int64_t>(sizeof(float))));
    }
  }
  PENSTOCK_RETURN_IF_ERROR(MlpBackward(layer, weights, activations, scratch, gradients, mode, gradient));
  return AttentionBackward(layer, weights, activations, scratch, gradients, mode, gradient);
}

// gradient: from y to mid.
absl::Status Gpt2Layer::MlpBackward(int layer, const Weights& weights, const Activations& a, const Scratch& scratch,
                                    const Gradients& gradients, GradientMode mode, void* gradient) const {
  const OpContext& context = scratch.context;
  void* d_fc = scratch.wide;      // (B, T, F)
  void* d_ln_2 = scratch.narrow;  // (B, T, C)
  // (B, T, C); used up before d_ln_2 is written.
  PENSTOCK_ASSIGN_OR_RETURN(const void* const d_branch,
                            scratch.dropout.Backward(context, MlpSite(layer), gradient, scratch.narrow));
  PENSTOCK_RETURN_IF_ERROR(mlp_proj_->BackwardWeight(context, a.gelu, d_branch, gradients.mlp_proj_weight,
                                                     Replicated(gradients.mlp_proj_bias), mode));
  PENSTOCK_RETURN_IF_ERROR(mlp_proj_->BackwardInputGelu(context, d_branch, weights.mlp_proj_weight, a.fc, d_fc));
  PENSTOCK_RETURN_IF_ERROR(fc_->BackwardWeight(context, a.ln_2, d_fc, gradients.fc_weight, gradients.fc_bias, mode));
  PENSTOCK_RETURN_IF_ERROR(fc_->BackwardInput(context, d_fc, weights.fc_weight, d_ln_2));
  PENSTOCK_RETURN_IF_ERROR(scratch.sum(context, d_ln_2, shape_.boundary_elements()));
  return norm_->Backward(context, a.mid, weights.ln_2_weight, a.ln_2_mean, a.ln_2_rstd, d_ln_2, gradient,
                         gradients.ln_2_weight, gradients.ln_2_bias, mode);
}

// gradient: from mid to x.
absl::Status Gpt2Layer::AttentionBackward(int layer, const Weights& weights, const Activations& a,
                                          const Scratch& scratch, const Gradients& gradients, GradientMode mode,
                                          void* gradient) const {
  const OpContext& context = scratch.context;
  void* d_attention = scratch.narrow;  // (B, T, A)
  void* d_qkv = scratch.wide;          // (B, T, H, 3, D)
  // (B, T, C); the MLP's half was the last one that needed a.mid.
  PENSTOCK_ASSIGN_OR_RETURN(const void* const d_branch,
                            scratch.dropout.Backward(context, AttentionSite(layer), gradient, a.mid));
  PENSTOCK_RETURN_IF_ERROR(proj_->BackwardWeight(context, a.attention, d_branch, gradients.proj_weight,
                                                 Replicated(gradients.proj_bias), mode));
  PENSTOCK_RETURN_IF_ERROR(proj_->BackwardInput(context, d_branch, weights.proj_weight, d_attention));
  PENSTOCK_RETURN_IF_ERROR(attention_->Backward(context, a.qkv, a.attention, a.log_sum_exp, d_attention, d_qkv));
  PENSTOCK_RETURN_IF_ERROR(
      qkv_->BackwardWeight(context, a.ln_1, d_qkv, gradients.qkv_weight, gradients.qkv_bias, mode));
  void* d_ln_1 = scratch.narrow;  // (B, T, C); d_attention is used up
  PENSTOCK_RETURN_IF_ERROR(qkv_->BackwardInput(context, d_qkv, weights.qkv_weight, d_ln_1));
  PENSTOCK_RETURN_IF_ERROR(scratch.sum(context, d_ln_1, shape_.boundary_elements()));
  return norm_->Backward(context, a.x, weights.ln_1_weight, a.ln_1_mean, a.ln_1_rstd, d_ln_1, gradient,
                         gradients.ln_1_weight, gradients.ln_1_bias, mode);
}

}  // namespace penstock
