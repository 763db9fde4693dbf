#include "worker/ops/cpu/embedding.h"

#include <algorithm>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

// Threads share the columns in runs of this many.
constexpr int64_t kColumnUnit = 16;

// out = a + b, either of which may be null for zeros.
template <typename T>
void AddRows(const Kernels<T>& kernels, const T* a, const T* b, int64_t width, T* out) {
  if (a != nullptr && b != nullptr) {
    kernels.add(a, b, out, width);
  } else if (const T* one = a != nullptr ? a : b; one != nullptr) {
    std::copy_n(one, width, out);
  } else {
    std::fill_n(out, width, T{});
  }
}

template <typename T>
class CpuEmbedding : public Embedding {
 public:
  CpuEmbedding(const EmbeddingShape& shape, int threads) : shape_(shape), threads_(threads) {}

  absl::Status Forward(const OpContext&, const int32_t* tokens, const void* wte, const void* wpe,
                       void* x) const override {
    const int64_t width = shape_.hidden;
    ParallelFor(threads_, Tokens(), 1 + kParallelElementsMin / 4 / width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* token =
            shape_.Holds(tokens[i]) ? static_cast<const T*>(wte) + (tokens[i] - shape_.vocab_begin) * width : nullptr;
        const T* position = wpe == nullptr ? nullptr : static_cast<const T*>(wpe) + (i % shape_.seq_length) * width;
        AddRows(kernels_, token, position, width, static_cast<T*>(x) + i * width);
      }
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext&, const int32_t* tokens, const void* dx, float* dwte,
                        float* dwpe) const override {
    const int64_t width = shape_.hidden;
    ParallelFor(threads_, width, kColumnUnit, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < Tokens(); ++i) {
        const T* in = static_cast<const T*>(dx) + i * width + begin;
        if (shape_.Holds(tokens[i])) {
          kernels_.accumulate(in, dwte + (tokens[i] - shape_.vocab_begin) * width + begin, end - begin);
        }
        if (dwpe != nullptr) {
          kernels_.accumulate(in, dwpe + (i % shape_.seq_length) * width + begin, end - begin);
        }
      }
    });
    return absl::OkStatus();
  }

 private:
  int64_t Tokens() const { return shape_.batch * shape_.seq_length; }

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
