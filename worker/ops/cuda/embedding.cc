#include "worker/ops/cuda/kernels/embedding.h"

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

class CudaEmbedding : public Embedding {
 public:
  explicit CudaEmbedding(const EmbeddingShape& shape) : shape_(shape) {}

  int64_t workspace_bytes() const override { return EmbeddingWorkspaceBytes(shape_.batch * shape_.seq_length); }

  absl::Status Forward(const OpContext& context, const int32_t* tokens, const void* wte, const void* wpe,
                       void* x) const override {
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(EmbeddingForward(Sizes(), tokens, As(wte, type), As(wpe, type), As(x, type), StreamOf(context)),
                      "embedding");
    });
  }

  absl::Status Backward(const OpContext& context, const int32_t* tokens, const void* dx, float* dwte,
                        float* dwpe) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(EmbeddingBackward(Sizes(), tokens, As(dx, type), reinterpret_cast<int32_t*>(context.workspace),
                                        dwte, dwpe, StreamOf(context)),
                      "embedding's gradient");
    });
  }

 private:
  EmbeddingSizes Sizes() const {
    return {.batch = shape_.batch,
            .seq_length = shape_.seq_length,
            .hidden = shape_.hidden,
            .vocab_begin = shape_.vocab_begin,
            .vocab_end = shape_.vocab_end == 0 ? shape_.vocab_size : shape_.vocab_end};
  }

  const EmbeddingShape shape_;
};

}  // namespace

std::unique_ptr<Embedding> CreateEmbedding(const EmbeddingShape& shape) {
  return std::make_unique<CudaEmbedding>(shape);
}

}  // namespace penstock::cuda
