// A transformer layer of GPT-2 (Radford et al. 2019), pre-norm:
//
//   mid = x + dropout(proj(attention(qkv(ln_1(x)))))
//   y = mid + dropout(mlp.proj(gelu(mlp.fc(ln_2(mid)))))
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
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/branch_dropout.h"
#include "worker/model/gpt2_layer_tensors.h"
#include "worker/model/gpt2_shape.h"
#include "worker/model/group_sum.h"
#include "worker/model/tensor_layout.h"
#include "worker/ops/backend.h"

namespace penstock {

class Gpt2Layer {
 public:
  template <typename Pointer>
  using Tensors = Gpt2LayerTensors<Pointer>;
  using Weights = Tensors<const void*>;  // of the shape's type
  using Gradients = Tensors<float*>;

  // What the backward pass needs of a forward pass. `void` is of the shape's type.
  struct Activations {
    void* x;             // (B, T, C)
    void* ln_1;          // (B, T, C)
    float* ln_1_mean;    // (B, T)
    float* ln_1_rstd;    // (B, T)
    void* qkv;           // (B, T, H, 3, D)
    float* log_sum_exp;  // (B, H, T)
    void* attention;     // (B, T, A)
    void* mid;           // (B, T, C)
    void* ln_2;          // (B, T, C)
    float* ln_2_mean;    // (B, T)
    float* ln_2_rstd;    // (B, T)
    void* fc;            // (B, T, F)
    void* gelu;          // (B, T, F)
  };

  // Memory shared by all layers.
  struct Scratch {
    void* narrow;  // (B, T, C)
    void* wide;    // (B, T, max(3 A, F))
    OpContext context;
    GroupSum sum;
    BranchDropout dropout;
  };

  static absl::StatusOr<std::unique_ptr<Gpt2Layer>> Create(const Gpt2Shape& shape, Backend* backend);

  // Of one layer's activations, and where they are in a region of that size.
  int64_t activation_bytes() const { return activation_bytes_; }
  Activations ActivationsAt(std::byte* region) const;

  int64_t wide_bytes() const;
  int64_t workspace_bytes() const;

  // Reads activations.x, writes the rest of them and y (B, T, C). `layer`: its number in the model.
  absl::Status Forward(int layer, const Weights& weights, const Activations& activations, const Scratch& scratch,
                       void* y) const;
  // gradient (B, T, C): on entry towards y, on return towards x. May use up the activations. Adds to `gradients`, or
  // with kWrite writes them.
  absl::Status Backward(int layer, const Weights& weights, const Activations& activations, const Scratch& scratch,
                        const Gradients& gradients, GradientMode mode, void* gradient) const;

 private:
  Gpt2Layer(const Gpt2Shape& shape, Backend* backend);

  // The row-parallel biases and their gradients are tensor rank 0's; null elsewhere.
  template <typename Pointer>
  Pointer Replicated(Pointer bias) const {
    return shape_.adds_replicated() ? bias : nullptr;
  }
  absl::Status MlpBackward(int layer, const Weights& weights, const Activations& activations, const Scratch& scratch,
                           const Gradients& gradients, GradientMode mode, void* gradient) const;
  absl::Status AttentionBackward(int layer, const Weights& weights, const Activations& activations,
                                 const Scratch& scratch, const Gradients& gradients, GradientMode mode,
                                 void* gradient) const;

  const Gpt2Shape shape_;
  Backend* const backend_;
  int64_t activation_bytes_ = 0;
  std::unique_ptr<LayerNorm> norm_;
  std::unique_ptr<Linear> qkv_;
  std::unique_ptr<CausalAttention> attention_;
  std::unique_ptr<Linear> proj_;
  std::unique_ptr<ResidualAdd> add_;
  std::unique_ptr<Linear> fc_;
  std::unique_ptr<Linear> mlp_proj_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_LAYER_H_
