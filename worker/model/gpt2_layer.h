// A transformer layer of GPT-2 (Radford et al. 2019), pre-norm:
//
//   mid = x + proj(attention(qkv(ln_1(x))))
//   y = mid + mlp.proj(gelu(mlp.fc(ln_2(mid))))
//
// Tensor-parallel after Shoeybi et al. 2019: qkv and mlp.fc are split by their outputs (whole heads), proj and mlp.proj
// by their inputs, so that each half of the layer needs one sum over the tensor group forward and one backward. Norms
// and the residual stream are whole on every rank.
//
// One Gpt2Layer holds the operations and serves every layer of a stage, since all have the same shapes; what differs
// are the pointers given. Thread-safety: const after creation; a Scratch serves one call at a time.
#ifndef PENSTOCK_WORKER_MODEL_GPT2_LAYER_H_
#define PENSTOCK_WORKER_MODEL_GPT2_LAYER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/gpt2_shape.h"
#include "worker/model/tensor_group.h"
#include "worker/model/tensor_layout.h"
#include "worker/ops/backend.h"

namespace penstock {

class Gpt2Layer {
 public:
  // The layer's parameters, or their gradients, in canonical layout.
  struct Tensors {
    float* ln_1_weight;      // (C)
    float* ln_1_bias;        // (C)
    float* qkv_weight;       // (H, 3, D, C)
    float* qkv_bias;         // (H, 3, D)
    float* proj_weight;      // (A, C), in first
    float* proj_bias;        // (C)
    float* ln_2_weight;      // (C)
    float* ln_2_bias;        // (C)
    float* fc_weight;        // (F, C), out first
    float* fc_bias;          // (F)
    float* mlp_proj_weight;  // (F, C), in first
    float* mlp_proj_bias;    // (C)

    // find("ln_1.weight") gives where that parameter of the layer is.
    static Tensors Find(const std::function<float*(std::string_view)>& find);
  };

  // What the backward pass needs of a forward pass.
  struct Activations {
    float* x;            // (B, T, C)
    float* ln_1;         // (B, T, C)
    float* ln_1_mean;    // (B, T)
    float* ln_1_rstd;    // (B, T)
    float* qkv;          // (B, T, H, 3, D)
    float* log_sum_exp;  // (B, H, T)
    float* attention;    // (B, T, A)
    float* mid;          // (B, T, C)
    float* ln_2;         // (B, T, C)
    float* ln_2_mean;    // (B, T)
    float* ln_2_rstd;    // (B, T)
    float* fc;           // (B, T, F)
    float* gelu;         // (B, T, F)
  };

  // Memory shared by all layers.
  struct Scratch {
    float* narrow;  // (B, T, C)
    float* wide;    // (B, T, max(3 A, F))
    OpContext context;
    // Null without tensor parallelism.
    TensorGroup* tensor = nullptr;
  };

  static absl::StatusOr<std::unique_ptr<Gpt2Layer>> Create(const Gpt2Shape& shape, Backend* backend);

  // Elements of one layer's activations, and where they are in a region of that size.
  int64_t activation_elements() const { return activation_elements_; }
  Activations ActivationsAt(float* region) const;

  int64_t narrow_elements() const { return shape_.boundary_elements(); }
  int64_t wide_elements() const;
  int64_t workspace_bytes() const;

  // Reads activations.x, writes the rest of them and y (B, T, C).
  absl::Status Forward(const Tensors& weights, const Activations& activations, const Scratch& scratch, float* y) const;
  // gradient (B, T, C): on entry towards y, on return towards x. Adds to `gradients`.
  absl::Status Backward(const Tensors& weights, const Activations& activations, const Scratch& scratch,
                        const Tensors& gradients, float* gradient) const;

 private:
  explicit Gpt2Layer(const Gpt2Shape& shape);

  // Adds up what the tensor ranks have of (B, T, C).
  absl::Status Sum(const Scratch& scratch, float* partial) const;
  // The row-parallel biases and their gradients are tensor rank 0's; null elsewhere.
  float* Replicated(float* bias) const { return shape_.adds_replicated() ? bias : nullptr; }
  absl::Status MlpBackward(const Tensors& weights, const Activations& activations, const Scratch& scratch,
                           const Tensors& gradients, float* gradient) const;
  absl::Status AttentionBackward(const Tensors& weights, const Activations& activations, const Scratch& scratch,
                                 const Tensors& gradients, float* gradient) const;

  const Gpt2Shape shape_;
  int64_t activation_elements_ = 0;
  std::unique_ptr<LayerNorm> norm_;
  std::unique_ptr<Linear> qkv_;
  std::unique_ptr<CausalAttention> attention_;
  std::unique_ptr<Linear> proj_;
  std::unique_ptr<ResidualAdd> add_;
  std::unique_ptr<Linear> fc_;
  std::unique_ptr<Gelu> gelu_;
  std::unique_ptr<Linear> mlp_proj_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_LAYER_H_
