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
#include "worker/model/group_sum.h"
#include "worker/model/tensor_layout.h"
#include "worker/ops/backend.h"

namespace penstock {

class Gpt2Head {
 public:
  template <typename Pointer>
  struct Tensors {
    Pointer ln_f_weight;  // (C)
    Pointer ln_f_bias;    // (C)
    Pointer wte;          // (V, C) of this tensor rank; in gradients the head's own part
  };
  using Weights = Tensors<const void*>;  // of the shape's type
  using Gradients = Tensors<float*>;

  // What the backward pass needs of a forward pass. `void` is of the shape's type.
  struct Activations {
    void* x;          // (B, T, C)
    float* mean;      // (B, T)
    float* rstd;      // (B, T)
    void* norm_grad;  // (B, T, C), towards the norm's output
  };

  struct Scratch {
    void* norm;                // (B, T, C)
    void* logits;              // logits_bytes()
    RowReduction* reductions;  // (tensor degree, rows of a chunk)
    OpContext context;
    GroupSum sum;
  };

  static absl::StatusOr<std::unique_ptr<Gpt2Head>> Create(const Gpt2Shape& shape, Backend* backend);

  int64_t activation_bytes() const { return activation_bytes_; }
  Activations ActivationsAt(std::byte* region) const;
  int64_t logits_bytes() const;
  int64_t reductions_bytes() const;
  int64_t workspace_bytes() const;

  // Reads activations.x; targets (B, T). Writes *loss, in the backend's memory. With `gradients` also writes the rest
  // of activations and adds to, or with kWrite writes, gradients->wte; without, only the loss is computed.
  absl::Status Forward(const Weights& weights, const Activations& activations, const Scratch& scratch,
                       const int32_t* targets, const Gradients* gradients, GradientMode mode, LossSum* loss) const;
  // Writes gradient (B, T, C) towards x; adds to the norm's gradients.
  absl::Status Backward(const Weights& weights, const Activations& activations, const Scratch& scratch,
                        const Gradients& gradients, void* gradient) const;
  // Clears what is added to in either mode: the norm's gradients.
  absl::Status ClearGradients(const OpContext& context, const Gradients& gradients) const;

 private:
  // Rows [begin, begin + rows) of a micro-batch, in operations of their own.
  struct Chunk {
    int64_t begin = 0;
    int64_t rows = 0;
    std::unique_ptr<LinearCrossEntropy> head;
  };

  Gpt2Head(const Gpt2Shape& shape, Backend* backend);

  const Gpt2Shape shape_;
  Backend* const backend_;
  int64_t activation_bytes_ = 0;
  std::unique_ptr<LayerNorm> norm_;
  std::vector<Chunk> chunks_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_HEAD_H_
