// The last block of GPT-2: final norm, output head (tied to the token embedding) and loss.
//
// Forward computes the head's gradients too, a bounded number of rows at a time, so that neither all logits nor
// anything of their size is ever kept. Tensor-parallel by the vocabulary (Shoeybi et al. 2019): each rank has the
// logits of its own tokens, the loss takes three numbers a row from each, and the gradient towards the norm is summed.
// Thread-safety: const after creation; a Scratch serves one call at a time.
#ifndef PENSTOCK_WORKER_MODEL_GPT2_HEAD_H_
#define PENSTOCK_WORKER_MODEL_GPT2_HEAD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/gpt2_shape.h"
#include "worker/model/tensor_group.h"
#include "worker/model/tensor_layout.h"
#include "worker/ops/backend.h"

namespace penstock {

class Gpt2Head {
 public:
  struct Tensors {
    float* ln_f_weight;  // (C)
    float* ln_f_bias;    // (C)
    float* wte;          // (V, C) of this tensor rank; in gradients the head's own part
  };

  // What the backward pass needs of a forward pass.
  struct Activations {
    float* x;          // (B, T, C)
    float* mean;       // (B, T)
    float* rstd;       // (B, T)
    float* norm_grad;  // (B, T, C), towards the norm's output
  };

  struct Scratch {
    float* norm;    // (B, T, C)
    float* logits;  // logits_elements()
    OpContext context;
    // Null without tensor parallelism, as are the reductions: (degree, rows of a chunk).
    TensorGroup* tensor = nullptr;
    RowReduction* reductions = nullptr;
  };

  static absl::StatusOr<std::unique_ptr<Gpt2Head>> Create(const Gpt2Shape& shape, Backend* backend);

  int64_t activation_elements() const { return activation_elements_; }
  Activations ActivationsAt(float* region) const;
  int64_t logits_elements() const;
  int64_t reductions_bytes() const;
  int64_t workspace_bytes() const;

  // Reads activations.x; targets (B, T). With `gradients` also writes the rest of activations and adds to
  // gradients->wte; without, only the loss is computed.
  absl::StatusOr<LossSum> Forward(const Tensors& weights, const Activations& activations, const Scratch& scratch,
                                  const int32_t* targets, const Tensors* gradients) const;
  // Writes gradient (B, T, C) towards x; adds to the norm's gradients.
  absl::Status Backward(const Tensors& weights, const Activations& activations, const Scratch& scratch,
                        const Tensors& gradients, float* gradient) const;

 private:
  // Rows [begin, begin + rows) of a micro-batch, in operations of their own.
  struct Chunk {
    int64_t begin = 0;
    int64_t rows = 0;
    std::unique_ptr<Linear> project;
    std::unique_ptr<CrossEntropy> loss;
    // In its place with tensor parallelism.
    std::unique_ptr<SplitCrossEntropy> split_loss;
  };

  Gpt2Head(const Gpt2Shape& shape, Backend* backend);

  // The loss of a chunk's logits, which `training` replaces by their gradient.
  absl::StatusOr<LossSum> Loss(const Chunk& chunk, const Scratch& scratch, const int32_t* targets, bool training) const;

  const Gpt2Shape shape_;
  Backend* const backend_;
  int64_t activation_elements_ = 0;
  std::unique_ptr<LayerNorm> norm_;
  std::vector<Chunk> chunks_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_HEAD_H_
