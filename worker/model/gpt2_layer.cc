#include "worker/model/gpt2_layer.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// The activations of a layer at `base` (null is fine when only the size is wanted); *elements is their size.
Gpt2Layer::Activations LayOut(const Gpt2Shape& shape, float* base, int64_t* elements) {
  TensorLayout layout;
  const auto tensor = [&](int64_t size) {
    const int64_t offset = layout.Add(size);
    return base == nullptr ? nullptr : base + offset;
  };
  const int64_t rows = shape.rows();
  const int64_t boundary = shape.boundary_elements();
  Gpt2Layer::Activations activations{};
  activations.x = tensor(boundary);
  activations.ln_1 = tensor(boundary);
  activations.ln_1_mean = tensor(rows);
  activations.ln_1_rstd = tensor(rows);
  activations.qkv = tensor(3 * rows * shape.attention_width());
  activations.log_sum_exp = tensor(rows * shape.heads);
  activations.attention = tensor(rows * shape.attention_width());
  activations.mid = tensor(boundary);
  activations.ln_2 = tensor(boundary);
  activations.ln_2_mean = tensor(rows);
  activations.ln_2_rstd = tensor(rows);
  activations.fc = tensor(rows * shape.mlp_hidden);
  activations.gelu = tensor(rows * shape.mlp_hidden);
  *elements = layout.elements();
  return activations;
}

}  // namespace

Gpt2Layer::Tensors Gpt2Layer::Tensors::Find(const std::function<float*(std::string_view)>& find) {
  return {.ln_1_weight = find("ln_1.weight"),
          .ln_1_bias = find("ln_1.bias"),
          .qkv_weight = find("attn.qkv.weight"),
          .qkv_bias = find("attn.qkv.bias"),
          .proj_weight = find("attn.proj.weight"),
          .proj_bias = find("attn.proj.bias"),
          .ln_2_weight = find("ln_2.weight"),
          .ln_2_bias = find("ln_2.bias"),
          .fc_weight = find("mlp.fc.weight"),
          .fc_bias = find("mlp.fc.bias"),
          .mlp_proj_weight = find("mlp.proj.weight"),
          .mlp_proj_bias = find("mlp.proj.bias")};
}

Gpt2Layer::Gpt2Layer(const Gpt2Shape& shape) : shape_(shape) { LayOut(shape_, nullptr, &activation_elements_); }

absl::StatusOr<std::unique_ptr<Gpt2Layer>> Gpt2Layer::Create(const Gpt2Shape& shape, Backend* backend) {
  std::unique_ptr<Gpt2Layer> layer(new Gpt2Layer(shape));
  const int64_t rows = shape.rows();
  const int64_t hidden = shape.hidden;
  const int64_t width = shape.attention_width();
  PENSTOCK_ASSIGN_OR_RETURN(layer->norm_,
                            backend->CreateLayerNorm({.rows = rows, .width = hidden, .epsilon = shape.epsilon}));
  PENSTOCK_ASSIGN_OR_RETURN(
      layer->qkv_,
      backend->CreateLinear(
          {.rows = rows, .in = hidden, .out = 3 * width, .layout = WeightLayout::kOutIn, .has_bias = true}));
  PENSTOCK_ASSIGN_OR_RETURN(
      layer->attention_,
      backend->CreateCausalAttention(
          {.batch = shape.batch, .seq_length = shape.seq_length, .heads = shape.heads, .head_dim = shape.head_dim}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->proj_, backend->CreateLinear({.rows = rows,
                                                                 .in = width,
                                                                 .out = hidden,
                                                                 .layout = WeightLayout::kInOut,
                                                                 .has_bias = shape.adds_replicated()}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->add_, backend->CreateResidualAdd(shape.boundary_elements()));
  PENSTOCK_ASSIGN_OR_RETURN(
      layer->fc_,
      backend->CreateLinear(
          {.rows = rows, .in = hidden, .out = shape.mlp_hidden, .layout = WeightLayout::kOutIn, .has_bias = true}));
  PENSTOCK_ASSIGN_OR_RETURN(layer->gelu_, backend->CreateGelu(rows * shape.mlp_hidden));
  PENSTOCK_ASSIGN_OR_RETURN(layer->mlp_proj_, backend->CreateLinear({.rows = rows,
                                                                     .in = shape.mlp_hidden,
                                                                     .out = hidden,
                                                                     .layout = WeightLayout::kInOut,
                                                                     .has_bias = shape.adds_replicated()}));
  return layer;
}

Gpt2Layer::Activations Gpt2Layer::ActivationsAt(float* region) const {
  int64_t elements = 0;
  return LayOut(shape_, region, &elements);
}

int64_t Gpt2Layer::wide_elements() const {
  return shape_.rows() * std::max(3 * shape_.attention_width(), shape_.mlp_hidden);
}

int64_t Gpt2Layer::workspace_bytes() const {
  return std::max({norm_->workspace_bytes(), qkv_->workspace_bytes(), attention_->workspace_bytes(),
                   proj_->workspace_bytes(), add_->workspace_bytes(), fc_->workspace_bytes(), gelu_->workspace_bytes(),
                   mlp_proj_->workspace_bytes()});
}

absl::Status Gpt2Layer::Sum(const Scratch& scratch, float* partial) const {
  if (scratch.tensor == nullptr) return absl::OkStatus();
  return scratch.tensor->Sum(scratch.context, partial, shape_.boundary_elements());
}

absl::Status Gpt2Layer::Forward(const Tensors& weights, const Activations& a, const Scratch& scratch, float* y) const {
  const OpContext& context = scratch.context;
  PENSTOCK_RETURN_IF_ERROR(
      norm_->Forward(context, a.x, weights.ln_1_weight, weights.ln_1_bias, a.ln_1, a.ln_1_mean, a.ln_1_rstd));
  PENSTOCK_RETURN_IF_ERROR(qkv_->Forward(context, a.ln_1, weights.qkv_weight, weights.qkv_bias, a.qkv));
  PENSTOCK_RETURN_IF_ERROR(attention_->Forward(context, a.qkv, a.attention, a.log_sum_exp));
  PENSTOCK_RETURN_IF_ERROR(
      proj_->Forward(context, a.attention, weights.proj_weight, Replicated(weights.proj_bias), scratch.narrow));
  PENSTOCK_RETURN_IF_ERROR(Sum(scratch, scratch.narrow));
  PENSTOCK_RETURN_IF_ERROR(add_->Forward(context, a.x, scratch.narrow, a.mid));

  PENSTOCK_RETURN_IF_ERROR(
      norm_->Forward(context, a.mid, weights.ln_2_weight, weights.ln_2_bias, a.ln_2, a.ln_2_mean, a.ln_2_rstd));
  PENSTOCK_RETURN_IF_ERROR(fc_->Forward(context, a.ln_2, weights.fc_weight, weights.fc_bias, a.fc));
  PENSTOCK_RETURN_IF_ERROR(gelu_->Forward(context, a.fc, a.gelu));
  PENSTOCK_RETURN_IF_ERROR(
      mlp_proj_->Forward(context, a.gelu, weights.mlp_proj_weight, Replicated(weights.mlp_proj_bias), scratch.narrow));
  PENSTOCK_RETURN_IF_ERROR(Sum(scratch, scratch.narrow));
  return add_->Forward(context, a.mid, scratch.narrow, y);
}

absl::Status Gpt2Layer::Backward(const Tensors& weights, const Activations& activations, const Scratch& scratch,
                                 const Tensors& gradients, float* gradient) const {
  PENSTOCK_RETURN_IF_ERROR(MlpBackward(weights, activations, scratch, gradients, gradient));
  return AttentionBackward(weights, activations, scratch, gradients, gradient);
}

// gradient: from y to mid.
absl::Status Gpt2Layer::MlpBackward(const Tensors& weights, const Activations& a, const Scratch& scratch,
                                    const Tensors& gradients, float* gradient) const {
  const OpContext& context = scratch.context;
  float* d_fc = scratch.wide;      // (B, T, F)
  float* d_ln_2 = scratch.narrow;  // (B, T, C)
  PENSTOCK_RETURN_IF_ERROR(mlp_proj_->BackwardWeight(context, a.gelu, gradient, gradients.mlp_proj_weight,
                                                     Replicated(gradients.mlp_proj_bias)));
  PENSTOCK_RETURN_IF_ERROR(mlp_proj_->BackwardInput(context, gradient, weights.mlp_proj_weight, d_fc));
  PENSTOCK_RETURN_IF_ERROR(gelu_->Backward(context, a.fc, d_fc, d_fc));
  PENSTOCK_RETURN_IF_ERROR(fc_->BackwardWeight(context, a.ln_2, d_fc, gradients.fc_weight, gradients.fc_bias));
  PENSTOCK_RETURN_IF_ERROR(fc_->BackwardInput(context, d_fc, weights.fc_weight, d_ln_2));
  PENSTOCK_RETURN_IF_ERROR(Sum(scratch, d_ln_2));
  return norm_->Backward(context, a.mid, weights.ln_2_weight, a.ln_2_mean, a.ln_2_rstd, d_ln_2, gradient,
                         gradients.ln_2_weight, gradients.ln_2_bias);
}

// gradient: from mid to x.
absl::Status Gpt2Layer::AttentionBackward(const Tensors& weights, const Activations& a, const Scratch& scratch,
                                          const Tensors& gradients, float* gradient) const {
  const OpContext& context = scratch.context;
  float* d_attention = scratch.narrow;  // (B, T, A)
  float* d_qkv = scratch.wide;          // (B, T, H, 3, D)
  PENSTOCK_RETURN_IF_ERROR(
      proj_->BackwardWeight(context, a.attention, gradient, gradients.proj_weight, Replicated(gradients.proj_bias)));
  PENSTOCK_RETURN_IF_ERROR(proj_->BackwardInput(context, gradient, weights.proj_weight, d_attention));
  PENSTOCK_RETURN_IF_ERROR(attention_->Backward(context, a.qkv, a.attention, a.log_sum_exp, d_attention, d_qkv));
  PENSTOCK_RETURN_IF_ERROR(qkv_->BackwardWeight(context, a.ln_1, d_qkv, gradients.qkv_weight, gradients.qkv_bias));
  float* d_ln_1 = scratch.narrow;  // (B, T, C); d_attention is used up
  PENSTOCK_RETURN_IF_ERROR(qkv_->BackwardInput(context, d_qkv, weights.qkv_weight, d_ln_1));
  PENSTOCK_RETURN_IF_ERROR(Sum(scratch, d_ln_1));
  return norm_->Backward(context, a.x, weights.ln_1_weight, a.ln_1_mean, a.ln_1_rstd, d_ln_1, gradient,
                         gradients.ln_1_weight, gradients.ln_1_bias);
}

}  // namespace penstock
