#include "worker/ops/cpu/embedding.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/vector.h"

namespace penstock::cpu {
namespace {

class CpuEmbedding : public Embedding {
 public:
  CpuEmbedding(const EmbeddingShape& shape, int threads) : shape_(shape), threads_(threads) {}

  absl::Status Forward(const OpContext&, const int32_t* tokens, const void* wte_data, const void* wpe_data,
                       void* x_data) const override {
    const float* wte = static_cast<const float*>(wte_data);
    const float* wpe = static_cast<const float*>(wpe_data);
    float* x = static_cast<float*>(x_data);
    PENSTOCK_RETURN_IF_ERROR(CheckTokens(tokens));
    const int64_t width = shape_.hidden;
    ParallelFor(threads_, Tokens(), 1 + kParallelElementsMin / 4 / width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* token = wte + tokens[i] * width;
        const float* position = wpe + (i % shape_.seq_length) * width;
        float* out = x + i * width;
        for (int64_t c = 0; c < width; ++c) out[c] = token[c] + position[c];
      }
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext&, const int32_t* tokens, const void* dx_data, float* dwte,
                        float* dwpe) const override {
    const float* dx = static_cast<const float*>(dx_data);
    PENSTOCK_RETURN_IF_ERROR(CheckTokens(tokens));
    const int64_t width = shape_.hidden;
    ParallelFor(threads_, width, kLanes, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < Tokens(); ++i) {
        const float* in = dx + i * width;
        float* token = dwte + tokens[i] * width;
        float* position = dwpe + (i % shape_.seq_length) * width;
        for (int64_t c = begin; c < end; ++c) token[c] += in[c];
        for (int64_t c = begin; c < end; ++c) position[c] += in[c];
      }
    });
    return absl::OkStatus();
  }

 private:
  int64_t Tokens() const { return shape_.batch * shape_.seq_length; }

  absl::Status CheckTokens(const int32_t* tokens) const {
    for (int64_t i = 0; i < Tokens(); ++i) {
      if (tokens[i] < 0 || tokens[i] >= shape_.vocab_size) {
        return absl::InvalidArgumentError(absl::StrCat(
            "token ", tokens[i], " at position ", i % shape_.seq_length, " of sample ", i / shape_.seq_length,
            " of the micro-batch is outside the vocabulary: expected 0 to ", shape_.vocab_size - 1));
      }
    }
    return absl::OkStatus();
  }

  const EmbeddingShape shape_;
  const int threads_;
};

}  // namespace

std::unique_ptr<Embedding> CreateEmbedding(const EmbeddingShape& shape, int threads) {
  return std::make_unique<CpuEmbedding>(shape, threads);
}

}  // namespace penstock::cpu
