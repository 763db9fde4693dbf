// Times the operations of one device and prints one JSON object: each with its seconds, the FLOPs of its formula, and
// the bytes that it can't do without (each tensor once in, once out), so that rates can be set beside those of the
// first two, a large copy and a large product. tests/gpu/scenarios.py runs it on a card.
//
//   bazel run -c opt //tests/bench:operations_bench -- --device cpu --small
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "core/base/bfloat16.h"
#include "core/base/data_type.h"
#include "core/base/status_macros.h"
#include "core/optimizer/adamw.h"
#include "core/optimizer/square_sum.h"
#include "nlohmann/json.hpp"
#include "tests/bench/bench_stats.h"
#include "worker/device/compute_device.h"
#include "worker/ops/backend.h"

ABSL_FLAG(std::string, device, "cuda:0", "cpu, or cuda:N");
ABSL_FLAG(int, threads, 2, "threads of the CPU");
ABSL_FLAG(int, rounds, 5, "timed rounds; the median counts");
ABSL_FLAG(bool, small, false, "sizes that a CPU gets done in seconds");

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using Run = std::function<absl::Status()>;

// The sizes of one run.
struct Sizes {
  int64_t copy_bytes = int64_t{1} << 30;
  int64_t square = 8192;
  int64_t parameters = 124'439'808;
  int64_t rows = 16384;
  std::vector<int64_t> widths = {768, 2048};
  int64_t vocabulary = 50304;
  // Of GPT-2 124M with 16 samples of 1024 tokens, and of a 1.3B model with 4 of 2048.
  std::vector<AttentionShape> attention = {
      {.batch = 16, .seq_length = 1024, .heads = 12, .head_dim = 64, .type = DataType::kBfloat16},
      {.batch = 4, .seq_length = 2048, .heads = 16, .head_dim = 128, .type = DataType::kBfloat16}};
  // Calls between two looks at the clock.
  int calls = 20;

  static Sizes Small() {
    Sizes sizes;
    sizes.copy_bytes = int64_t{1} << 24;
    sizes.square = 256;
    sizes.parameters = 1 << 20;
    sizes.rows = 256;
    sizes.widths = {128};
    sizes.vocabulary = 1000;
    sizes.attention = {{.batch = 2, .seq_length = 64, .heads = 2, .head_dim = 32, .type = DataType::kBfloat16}};
    sizes.calls = 2;
    return sizes;
  }
};

class Bench {
 public:
  Bench(Backend* backend, const Sizes& sizes) : backend_(backend), sizes_(sizes) {}

  absl::Status RunAll() {
    PENSTOCK_RETURN_IF_ERROR(Memory());
    PENSTOCK_RETURN_IF_ERROR(Product());
    PENSTOCK_RETURN_IF_ERROR(Optimizer());
    for (const int64_t width : sizes_.widths) {
      PENSTOCK_RETURN_IF_ERROR(Norms(width));
      PENSTOCK_RETURN_IF_ERROR(Mlp(width));
      PENSTOCK_RETURN_IF_ERROR(Head(width));
    }
    for (const AttentionShape& shape : sizes_.attention) PENSTOCK_RETURN_IF_ERROR(Attention(shape));
    return absl::OkStatus();
  }
  const Json& results() const { return results_; }

 private:
  static constexpr DataType kType = DataType::kBfloat16;
  static constexpr double kBytes = 2;  // of kType

  // Noise, so that a device's clocks and powers are a real run's.
  absl::StatusOr<std::unique_ptr<DeviceMemory>> Tensor(int64_t elements, DataType type = kType) {
    PENSTOCK_ASSIGN_OR_RETURN(auto memory, backend_->Allocate(elements * BytesOf(type)));
    constexpr int64_t kPart = 1 << 20;
    std::vector<float> noise(static_cast<size_t>(std::min(elements, kPart)));
    uint32_t state = 1;
    for (float& value : noise) {
      state = state * 1664525u + 1013904223u;
      value = (static_cast<float>(state >> 8) * 0x1p-24F - 0.5F) * 0.1F;
    }
    std::vector<Bfloat16> rounded(noise.size());
    ToBfloat16(noise, rounded);
    const void* const from = type == kType ? static_cast<const void*>(rounded.data()) : noise.data();
    for (int64_t at = 0; at < elements; at += kPart) {
      PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, from, memory->data() + at * BytesOf(type),
                                              std::min(kPart, elements - at) * BytesOf(type)));
    }
    PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
    return memory;
  }

  absl::StatusOr<OpContext> ContextOf(const Operation& operation) {
    PENSTOCK_ASSIGN_OR_RETURN(workspace_, backend_->Allocate(std::max<int64_t>(64, operation.workspace_bytes())));
    return OpContext{.workspace = workspace_->data(), .workspace_bytes = workspace_->size()};
  }

  absl::Status Time(const std::string& name, double flops, double bytes, const Run& run) {
    std::vector<double> seconds;
    for (int round = 0; round <= absl::GetFlag(FLAGS_rounds); ++round) {
      absl::Status status = backend_->Synchronize({});
      const double taken = SecondsOf([&] {
        for (int call = 0; call < sizes_.calls; ++call) status.Update(run());
        status.Update(backend_->Synchronize({}));
      });
      PENSTOCK_RETURN_IF_ERROR(status);
      if (round > 0) seconds.push_back(taken / sizes_.calls);
    }
    const double median = Median(seconds);
    results_[name] = {{"seconds", median}};
    if (flops > 0) results_[name]["flops_per_second"] = flops / median;
    if (bytes > 0) results_[name]["bytes_per_second"] = bytes / median;
    return absl::OkStatus();
  }

  absl::Status Memory() {
    PENSTOCK_ASSIGN_OR_RETURN(const auto memory, backend_->Allocate(2 * sizes_.copy_bytes));
    std::byte* const at = memory->data();
    return Time("copy", 0, 2.0 * static_cast<double>(sizes_.copy_bytes),
                [&] { return backend_->Copy({}, at, at + sizes_.copy_bytes, sizes_.copy_bytes); });
  }

  absl::Status Product() {
    const int64_t n = sizes_.square;
    LinearShape shape{.rows = n, .in = n, .out = n};
    shape.type = kType;
    PENSTOCK_ASSIGN_OR_RETURN(const auto linear, backend_->CreateLinear(shape));
    PENSTOCK_ASSIGN_OR_RETURN(const OpContext context, ContextOf(*linear));
    PENSTOCK_ASSIGN_OR_RETURN(const auto x, Tensor(n * n));
    PENSTOCK_ASSIGN_OR_RETURN(const auto w, Tensor(n * n));
    PENSTOCK_ASSIGN_OR_RETURN(const auto y, Tensor(n * n));
    const double flops = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    return Time("product", flops, 0,
                [&] { return linear->Forward(context, x->data(), w->data(), nullptr, y->data()); });
  }

  absl::Status Optimizer() {
    const int64_t count = sizes_.parameters;
    const size_t size = static_cast<size_t>(count);
    std::vector<std::unique_ptr<DeviceMemory>> state;
    std::vector<std::span<float>> spans;
    for (int i = 0; i < 4; ++i) {
      PENSTOCK_ASSIGN_OR_RETURN(auto memory, backend_->Allocate(count * 4));
      spans.emplace_back(reinterpret_cast<float*>(memory->data()), size);
      state.push_back(std::move(memory));
    }
    PENSTOCK_ASSIGN_OR_RETURN(const auto narrow, Tensor(count));
    const std::span<Bfloat16> rounded(reinterpret_cast<Bfloat16*>(narrow->data()), size);
    const AdamWParams params{
        .learning_rate = 1e-4F, .beta1 = 0.9F, .beta2 = 0.999F, .epsilon = 1e-8F, .weight_decay = 0.1F};
    const double elements = static_cast<double>(count);
    PENSTOCK_RETURN_IF_ERROR(Time("adamw fp32", 0, 28 * elements, [&] {
      return backend_->AdamW({}, params, spans[0], spans[1], spans[2], spans[3], {});
    }));
    PENSTOCK_RETURN_IF_ERROR(Time("adamw bf16", 0, 30 * elements, [&] {
      return backend_->AdamW({}, params, spans[0], spans[1], spans[2], spans[3], rounded);
    }));
    std::vector<std::span<const float>> pieces;
    constexpr size_t kPiece = static_cast<size_t>(kPieceElements);
    for (size_t at = 0; at < size; at += kPiece) pieces.push_back(spans[0].subspan(at, std::min(kPiece, size - at)));
    std::vector<double> sums(pieces.size());
    return Time("gradient norm", 0, 4 * elements, [&] { return backend_->SquareSums({}, pieces, sums.data()); });
  }

  absl::Status Norms(int64_t width) {
    const int64_t rows = sizes_.rows;
    const int64_t elements = rows * width;
    const double bytes = kBytes * static_cast<double>(elements);
    PENSTOCK_ASSIGN_OR_RETURN(const auto norm,
                              backend_->CreateLayerNorm({.rows = rows, .width = width, .type = kType}));
    PENSTOCK_ASSIGN_OR_RETURN(const OpContext context, ContextOf(*norm));
    PENSTOCK_ASSIGN_OR_RETURN(const auto a, Tensor(elements));
    PENSTOCK_ASSIGN_OR_RETURN(const auto b, Tensor(elements));
    PENSTOCK_ASSIGN_OR_RETURN(const auto sum, Tensor(elements));
    PENSTOCK_ASSIGN_OR_RETURN(const auto y, Tensor(elements));
    PENSTOCK_ASSIGN_OR_RETURN(const auto gamma, Tensor(width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto statistics, Tensor(2 * rows, DataType::kFloat32));
    PENSTOCK_ASSIGN_OR_RETURN(const auto gradients, Tensor(2 * width, DataType::kFloat32));
    float* const mean = reinterpret_cast<float*>(statistics->data());
    float* const dgamma = reinterpret_cast<float*>(gradients->data());
    const std::string at = absl::StrCat(" ", rows, " x ", width);
    PENSTOCK_RETURN_IF_ERROR(Time(absl::StrCat("layer norm", at), 0, 2 * bytes, [&] {
      return norm->Forward(context, a->data(), gamma->data(), gamma->data(), y->data(), mean, mean + rows);
    }));
    PENSTOCK_RETURN_IF_ERROR(Time(absl::StrCat("layer norm of a sum", at), 0, 4 * bytes, [&] {
      return norm->ForwardOfSum(context, a->data(), b->data(), sum->data(), gamma->data(), gamma->data(), y->data(),
                                mean, mean + rows);
    }));
    PENSTOCK_RETURN_IF_ERROR(Time(absl::StrCat("layer norm backward", at), 0, 4 * bytes, [&] {
      return norm->Backward(context, a->data(), gamma->data(), mean, mean + rows, y->data(), b->data(), dgamma,
                            dgamma + width);
    }));
    PENSTOCK_ASSIGN_OR_RETURN(const auto add, backend_->CreateResidualAdd(elements, kType));
    return Time(absl::StrCat("residual", at), 0, 3 * bytes,
                [&] { return add->Forward(context, a->data(), sum->data(), y->data()); });
  }

  // The products of a layer's MLP, forward.
  absl::Status Mlp(int64_t width) {
    const int64_t rows = sizes_.rows;
    LinearShape shape{.rows = rows, .in = width, .out = 4 * width, .layout = WeightLayout::kOutIn, .has_bias = true};
    shape.type = kType;
    PENSTOCK_ASSIGN_OR_RETURN(const auto linear, backend_->CreateLinear(shape));
    PENSTOCK_ASSIGN_OR_RETURN(const OpContext context, ContextOf(*linear));
    PENSTOCK_ASSIGN_OR_RETURN(const auto x, Tensor(rows * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto w, Tensor(4 * width * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto bias, Tensor(4 * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto y, Tensor(4 * rows * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto dw, Tensor(4 * width * width, DataType::kFloat32));
    PENSTOCK_ASSIGN_OR_RETURN(const auto dbias, Tensor(4 * width, DataType::kFloat32));
    const double flops = 8.0 * static_cast<double>(rows) * static_cast<double>(width) * static_cast<double>(width);
    const std::string at = absl::StrCat(" ", rows, " x ", width, " x ", 4 * width);
    PENSTOCK_RETURN_IF_ERROR(Time(absl::StrCat("linear", at), flops, 0, [&] {
      return linear->Forward(context, x->data(), w->data(), bias->data(), y->data());
    }));
    PENSTOCK_RETURN_IF_ERROR(Time(absl::StrCat("linear, gradient of the input", at), flops, 0,
                                  [&] { return linear->BackwardInput(context, y->data(), w->data(), x->data()); }));
    return Time(absl::StrCat("linear, gradient of the weights", at), flops, 0, [&] {
      return linear->BackwardWeight(context, x->data(), y->data(), reinterpret_cast<float*>(dw->data()),
                                    reinterpret_cast<float*>(dbias->data()), GradientMode::kWrite);
    });
  }

  // Output head, loss and their gradients, of as many rows as a stage takes at once.
  absl::Status Head(int64_t width) {
    LinearCrossEntropyShape shape{
        .rows = std::min<int64_t>(512, sizes_.rows), .in = width, .vocab_size = sizes_.vocabulary};
    shape.vocab_end = sizes_.vocabulary;
    shape.type = kType;
    PENSTOCK_ASSIGN_OR_RETURN(const auto head, backend_->CreateLinearCrossEntropy(shape));
    PENSTOCK_ASSIGN_OR_RETURN(const OpContext context, ContextOf(*head));
    PENSTOCK_ASSIGN_OR_RETURN(const auto x, Tensor(shape.rows * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto dx, Tensor(shape.rows * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto w, Tensor(sizes_.vocabulary * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto dw, Tensor(sizes_.vocabulary * width, DataType::kFloat32));
    PENSTOCK_ASSIGN_OR_RETURN(const auto logits, Tensor(shape.logits_elements(), DataType::kFloat32));
    // Zeros: token 0 of every row.
    PENSTOCK_ASSIGN_OR_RETURN(const auto targets, backend_->Allocate(shape.rows * 4));
    PENSTOCK_ASSIGN_OR_RETURN(const auto total, backend_->Allocate(static_cast<int64_t>(sizeof(LossSum))));
    PENSTOCK_ASSIGN_OR_RETURN(const auto parts,
                              backend_->Allocate(shape.rows * static_cast<int64_t>(sizeof(RowReduction))));
    const auto* const target = reinterpret_cast<const int32_t*>(targets->data());
    auto* const rows = reinterpret_cast<RowReduction*>(parts->data());
    float* const scores = reinterpret_cast<float*>(logits->data());
    const double flops =
        6.0 * static_cast<double>(shape.rows) * static_cast<double>(width) * static_cast<double>(sizes_.vocabulary);
    return Time(absl::StrCat("head and loss ", shape.rows, " x ", width, " x ", sizes_.vocabulary), flops, 0,
                [&]() -> absl::Status {
                  PENSTOCK_RETURN_IF_ERROR(head->Forward(context, x->data(), w->data(), target, scores, rows));
                  PENSTOCK_RETURN_IF_ERROR(head->Loss(context, rows, target, reinterpret_cast<LossSum*>(total->data()),
                                                      GradientMode::kWrite));
                  return head->Backward(context, x->data(), w->data(), rows, target, scores, dx->data(),
                                        reinterpret_cast<float*>(dw->data()), GradientMode::kWrite);
                });
  }

  absl::Status Attention(const AttentionShape& shape) {
    const int64_t tokens = shape.batch * shape.seq_length;
    const int64_t width = shape.heads * shape.head_dim;
    PENSTOCK_ASSIGN_OR_RETURN(const auto attention, backend_->CreateCausalAttention(shape));
    PENSTOCK_ASSIGN_OR_RETURN(const OpContext context, ContextOf(*attention));
    PENSTOCK_ASSIGN_OR_RETURN(const auto qkv, Tensor(3 * tokens * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto dqkv, Tensor(3 * tokens * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto out, Tensor(tokens * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto dout, Tensor(tokens * width));
    PENSTOCK_ASSIGN_OR_RETURN(const auto sums, Tensor(tokens * shape.heads, DataType::kFloat32));
    float* const log_sum_exp = reinterpret_cast<float*>(sums->data());
    // Two products of half a square each, as FlashAttention's papers count; five backward.
    const double flops =
        2.0 * static_cast<double>(tokens) * static_cast<double>(shape.seq_length) * static_cast<double>(width);
    const std::string at =
        absl::StrCat(" ", shape.batch, " x ", shape.seq_length, " x ", shape.heads, " x ", shape.head_dim);
    PENSTOCK_RETURN_IF_ERROR(Time(absl::StrCat("attention", at), flops, 0,
                                  [&] { return attention->Forward(context, qkv->data(), out->data(), log_sum_exp); }));
    return Time(absl::StrCat("attention backward", at), 2.5 * flops, 0, [&] {
      return attention->Backward(context, qkv->data(), out->data(), log_sum_exp, dout->data(), dqkv->data());
    });
  }

  Backend* const backend_;
  const Sizes sizes_;
  std::unique_ptr<DeviceMemory> workspace_;
  Json results_ = Json::object();
};

absl::Status Main() {
  PENSTOCK_ASSIGN_OR_RETURN(const ComputeDevice device,
                            ParseComputeDevice(absl::GetFlag(FLAGS_device), absl::GetFlag(FLAGS_threads)));
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, CreateBackend(device));
  Bench bench(backend.get(), absl::GetFlag(FLAGS_small) ? Sizes::Small() : Sizes());
  const absl::Status status = bench.RunAll();
  // What was measured before an error is worth something, too.
  Json json = {{"device", backend->Describe()}, {"operations", bench.results()}};
  if (!status.ok()) json["error"] = status.ToString();
  std::printf("%s\n", json.dump(1).c_str());
  return status;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = penstock::Main();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
