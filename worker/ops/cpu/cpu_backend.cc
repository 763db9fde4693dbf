#include "worker/ops/cpu/cpu_backend.h"

#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"
#include "core/optimizer/square_sum.h"
#include "worker/ops/cpu/attention.h"
#include "worker/ops/cpu/dropout.h"
#include "worker/ops/cpu/embedding.h"
#include "worker/ops/cpu/gelu.h"
#include "worker/ops/cpu/host_memory.h"
#include "worker/ops/cpu/layer_norm.h"
#include "worker/ops/cpu/linear.h"
#include "worker/ops/cpu/linear_cross_entropy.h"
#include "worker/ops/cpu/matmul.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/residual.h"
#include "worker/ops/shape_checks.h"

namespace penstock {
namespace {

constexpr int kThreadsMax = 1024;
// Less than this isn't worth a thread.
constexpr int64_t kCopyUnitBytes = 1 << 20;

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(int threads) : threads_(threads), matmuls_(threads) {}

  std::string Describe() const override {
    const dnnl_version_t* version = dnnl_version();
    return absl::StrCat("cpu, ", threads_, threads_ == 1 ? " thread" : " threads", ", oneDNN ", version->major, ".",
                        version->minor, ".", version->patch);
  }

  absl::StatusOr<int64_t> AvailableBytes() override { return cpu::AvailableHostBytes(); }

  absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(int64_t bytes) override {
    return cpu::AllocateHostMemory(bytes);
  }

  absl::Status Zero(const OpContext&, void* to, int64_t bytes) override {
    std::byte* at = static_cast<std::byte*>(to);
    ParallelFor(threads_, bytes, kCopyUnitBytes,
                [&](int64_t begin, int64_t end) { std::memset(at + begin, 0, static_cast<size_t>(end - begin)); });
    return absl::OkStatus();
  }

  absl::Status Copy(const OpContext&, const void* from, void* to, int64_t bytes) override {
    const std::byte* source = static_cast<const std::byte*>(from);
    std::byte* at = static_cast<std::byte*>(to);
    ParallelFor(threads_, bytes, kCopyUnitBytes, [&](int64_t begin, int64_t end) {
      std::memcpy(at + begin, source + begin, static_cast<size_t>(end - begin));
    });
    return absl::OkStatus();
  }

  absl::Status Add(const OpContext&, std::span<const float> part, std::span<float> sum) override {
    ParallelFor(threads_, static_cast<int64_t>(sum.size()), kParallelElementsMin, [&](int64_t begin, int64_t end) {
      const float* const from = part.data();
      float* const to = sum.data();
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    });
    return absl::OkStatus();
  }

  absl::Status SquareSums(const OpContext&, std::span<const std::span<const float>> pieces, double* sums) override {
    ParallelFor(threads_, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sums[i] = SumOfSquares(pieces[static_cast<size_t>(i)]);
    });
    return absl::OkStatus();
  }

  absl::Status AdamW(const OpContext&, const AdamWParams& params, std::span<const float> gradient,
                     std::span<float> weights, std::span<float> exp_avg, std::span<float> exp_avg_sq,
                     std::span<Bfloat16> rounded) override {
    ParallelFor(threads_, static_cast<int64_t>(weights.size()), kParallelElementsMin, [&](int64_t begin, int64_t end) {
      const auto part = [&](auto span) {
        return span.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
      };
      if (rounded.empty()) {
        AdamWUpdate(params, part(gradient), part(weights), part(exp_avg), part(exp_avg_sq));
      } else {
        AdamWUpdate(params, part(gradient), part(weights), part(exp_avg), part(exp_avg_sq), part(rounded));
      }
    });
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cpu::CreateLinear(shape, &matmuls_);
  }

  absl::StatusOr<std::unique_ptr<LayerNorm>> CreateLayerNorm(const LayerNormShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cpu::CreateLayerNorm(shape, threads_);
  }

  absl::StatusOr<std::unique_ptr<CausalAttention>> CreateCausalAttention(const AttentionShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cpu::CreateCausalAttention(shape, threads_);
  }

  absl::StatusOr<std::unique_ptr<Gelu>> CreateGelu(int64_t elements, DataType type) override {
    PENSTOCK_RETURN_IF_ERROR(CheckPositive("gelu", {{"elements", elements}}));
    return cpu::CreateGelu(elements, type, threads_);
  }

  absl::StatusOr<std::unique_ptr<ResidualAdd>> CreateResidualAdd(int64_t elements, DataType type) override {
    PENSTOCK_RETURN_IF_ERROR(CheckPositive("residual add", {{"elements", elements}}));
    return cpu::CreateResidualAdd(elements, type, threads_);
  }

  absl::StatusOr<std::unique_ptr<Dropout>> CreateDropout(const DropoutShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cpu::CreateDropout(shape, threads_);
  }

  absl::StatusOr<std::unique_ptr<Embedding>> CreateEmbedding(const EmbeddingShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cpu::CreateEmbedding(shape, threads_);
  }

  absl::Status Convert(const OpContext&, DataType from_type, const void* from, DataType to_type, void* to,
                       int64_t elements) override {
    PENSTOCK_CHECK(from_type != to_type);
    ParallelFor(threads_, elements, kParallelElementsMin, [&](int64_t begin, int64_t end) {
      const size_t size = static_cast<size_t>(end - begin);
      if (to_type == DataType::kBfloat16) {
        ToBfloat16({static_cast<const float*>(from) + begin, size}, {static_cast<Bfloat16*>(to) + begin, size});
      } else {
        ToFloat({static_cast<const Bfloat16*>(from) + begin, size}, {static_cast<float*>(to) + begin, size});
      }
    });
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(
      const LinearCrossEntropyShape& shape) override {
    PENSTOCK_RETURN_IF_ERROR(CheckShape(shape));
    return cpu::CreateLinearCrossEntropy(shape, &matmuls_);
  }

 private:
  const int threads_;
  cpu::MatmulCache matmuls_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuBackendOptions& options) {
  if (options.threads < 1 || options.threads > kThreadsMax) {
    return absl::InvalidArgumentError(absl::StrCat("threads is ", options.threads, "; it must be 1 to ", kThreadsMax));
  }
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(options.threads));
}

}  // namespace penstock
