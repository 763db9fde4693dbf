#include "worker/ops/cuda/kernels/embedding.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/operations.h"
#include "worker/ops/cuda/tokens.h"

namespace penstock::cuda {
namespace {

class CudaEmbedding : public Embedding {
 public:
  explicit CudaEmbedding(const EmbeddingShape& shape) : shape_(shape) {}

  int64_t workspace_bytes() const override {
    return std::max(kBadTokenBytes, EmbeddingWorkspaceBytes(shape_.batch * shape_.seq_length));
  }

  absl::Status Forward(const OpContext& context, const int32_t* tokens, const void* wte, const void* wpe,
                       void* x) const override {
    PENSTOCK_RETURN_IF_ERROR(Check(context, tokens));
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(EmbeddingForward(Sizes(), tokens, As(wte, type), As(wpe, type), As(x, type), StreamOf(context)),
                      "embedding");
    });
  }

  // The forward pass has checked the tokens.
  absl::Status Backward(const OpContext& context, const int32_t* tokens, const void* dx, float* dwte,
                        float* dwpe) const override {
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

  absl::Status Check(const OpContext& context, const int32_t* tokens) const {
    PENSTOCK_ASSIGN_OR_RETURN(
        const std::optional<BadToken> bad,
        FindBadToken(context, tokens, shape_.batch * shape_.seq_length, 0, shape_.vocab_size, context.workspace));
    if (!bad.has_value()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("token ", bad->token, " at position ", bad->index % shape_.seq_length, " of sample ",
                     bad->index / shape_.seq_length, " of the micro-batch is outside the vocabulary: expected 0 to ",
                     shape_.vocab_size - 1));
  }

  const EmbeddingShape shape_;
};

}  // namespace

std::unique_ptr<Embedding> CreateEmbedding(const EmbeddingShape& shape) {
  return std::make_unique<CudaEmbedding>(shape);
}

}  // namespace penstock::cuda
