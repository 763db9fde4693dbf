#include "worker/ops/cpu/embedding.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

// Threads share the columns in runs of this many.
constexpr int64_t kColumnUnit = 16;

template <typename T>
class CpuEmbedding : public Embedding {
 public:
  CpuEmbedding(const EmbeddingShape& shape, int threads) : shape_(shape), threads_(threads) {}

  absl::Status Forward(const OpContext&, const int32_t* tokens, const void* wte, const void* wpe,
                       void* x) const override {
    PENSTOCK_RETURN_IF_ERROR(CheckTokens(tokens));
    const int64_t width = shape_.hidden;
    ParallelFor(threads_, Tokens(), 1 + kParallelElementsMin / 4 / width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        kernels_.add(static_cast<const T*>(wte) + tokens[i] * width,
                     static_cast<const T*>(wpe) + (i % shape_.seq_length) * width, static_cast<T*>(x) + i * width,
                     width);
      }
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext&, const int32_t* tokens, const void* dx, float* dwte,
                        float* dwpe) const override {
    PENSTOCK_RETURN_IF_ERROR(CheckTokens(tokens));
    const int64_t width = shape_.hidden;
    ParallelFor(threads_, width, kColumnUnit, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < Tokens(); ++i) {
        const T* in = static_cast<const T*>(dx) + i * width + begin;
        kernels_.accumulate(in, dwte + tokens[i] * width + begin, end - begin);
        kernels_.accumulate(in, dwpe + (i % shape_.seq_length) * width + begin, end - begin);
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

  const Kernels<T>& kernels_ = KernelsFor<T>();
  const EmbeddingShape shape_;
  const int threads_;
};

}  // namespace

std::unique_ptr<Embedding> CreateEmbedding(const EmbeddingShape& shape, int threads) {
  if (shape.type == DataType::kBfloat16) return std::make_unique<CpuEmbedding<Bfloat16>>(shape, threads);
  return std::make_unique<CpuEmbedding<float>>(shape, threads);
}

}  // namespace penstock::cpu
