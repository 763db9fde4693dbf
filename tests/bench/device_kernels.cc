#include "tests/bench/device_kernels.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr int64_t kHeadRows = 4096;
// Elements after which numbers repeat themselves.
constexpr int64_t kDifferentNumbers = int64_t{1} << 20;

// Makes cases: their memory stays with them, their operations are theirs.
class Maker {
 public:
  Maker(Backend* backend, const KernelSizes& sizes)
      : backend_(backend),
        sizes_(sizes),
        positions_(sizes.batch * sizes.seq_length),
        elements_(positions_ * sizes.hidden),
        element_bytes_(BytesOf(sizes.type)) {}

  absl::StatusOr<KernelCases> Make() {
    if (sizes_.products_only) {
      PENSTOCK_RETURN_IF_ERROR(AddLinear());
      PENSTOCK_RETURN_IF_ERROR(AddHead(kHeadRows, ""));
      return std::move(result_);
    }
    PENSTOCK_RETURN_IF_ERROR(AddReferences());
    PENSTOCK_RETURN_IF_ERROR(AddAttention());
    PENSTOCK_RETURN_IF_ERROR(AddLinear());
    PENSTOCK_RETURN_IF_ERROR(AddHead(kHeadRows, ""));
    for (const int64_t rows : {2 * kHeadRows, 4 * kHeadRows}) {
      if (rows <= positions_) PENSTOCK_RETURN_IF_ERROR(AddHead(rows, absl::StrCat(", ", rows, " rows")));
    }
    PENSTOCK_RETURN_IF_ERROR(AddLayerNorm());
    PENSTOCK_RETURN_IF_ERROR(AddElementwise());
    PENSTOCK_RETURN_IF_ERROR(AddEmbedding());
    PENSTOCK_RETURN_IF_ERROR(AddOptimizer());
    return std::move(result_);
  }

 private:
  absl::StatusOr<std::byte*> Allocate(int64_t bytes) {
    PENSTOCK_ASSIGN_OR_RETURN(auto memory, backend_->Allocate(bytes));
    result_.memory.push_back(std::move(memory));
    return result_.memory.back()->data();
  }
  // `count` numbers between -1 and 1 of the type.
  absl::StatusOr<std::byte*> Numbers(int64_t count, DataType type) {
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const to, Allocate(count * BytesOf(type)));
    const int64_t different = std::min(count, kDifferentNumbers);
    std::minstd_rand generator(1);
    std::vector<float> values(static_cast<size_t>(different));
    for (float& value : values) value = static_cast<float>(generator() % 2048) / 1024 - 1;
    std::vector<Bfloat16> narrow(type == DataType::kBfloat16 ? values.size() : 0);
    if (!narrow.empty()) ToBfloat16(values, narrow);
    const void* const from = narrow.empty() ? static_cast<const void*>(values.data()) : narrow.data();
    PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, from, to, different * BytesOf(type)));
    for (int64_t at = different; at < count; at *= 2) {
      PENSTOCK_RETURN_IF_ERROR(
          backend_->Copy({}, to, to + at * BytesOf(type), std::min(at, count - at) * BytesOf(type)));
    }
    PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
    return to;
  }
  absl::StatusOr<std::byte*> Numbers(int64_t count) { return Numbers(count, sizes_.type); }
  absl::StatusOr<float*> Floats(int64_t count) {
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const memory, Numbers(count, DataType::kFloat32));
    return reinterpret_cast<float*>(memory);
  }
  absl::StatusOr<OpContext> ContextFor(const Operation& operation) {
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const workspace, Allocate(operation.workspace_bytes()));
    return OpContext{.workspace = workspace, .workspace_bytes = operation.workspace_bytes()};
  }
  void Add(std::string name, double flops, double bytes, std::function<absl::Status()> run) {
    result_.cases.push_back({std::move(name), flops, bytes, std::move(run)});
  }
  // Of so many tensors (batch, seq_length, hidden).
  double TensorBytes(double tensors) const {
    return tensors * static_cast<double>(elements_) * static_cast<double>(element_bytes_);
  }

  absl::Status AddReferences() {
    const int64_t bytes = std::max<int64_t>(sizes_.parameters * 4, 1);
    PENSTOCK_ASSIGN_OR_RETURN(float* const from, Floats(sizes_.parameters));
    PENSTOCK_ASSIGN_OR_RETURN(float* const to, Floats(sizes_.parameters));
    Add(kCopyCase, 0, 2.0 * static_cast<double>(bytes),
        [=, backend = backend_] { return backend->Copy({}, from, to, bytes); });
    const int64_t n = sizes_.product;
    PENSTOCK_ASSIGN_OR_RETURN(
        std::shared_ptr<Linear> linear,
        backend_->CreateLinear({.rows = n, .in = n, .out = n, .has_bias = false, .type = sizes_.type}));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const x, Numbers(n * n));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const weight, Numbers(n * n));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const y, Numbers(n * n));
    PENSTOCK_ASSIGN_OR_RETURN(const auto context, ContextFor(*linear));
    const double side = static_cast<double>(n);
    Add(kProductCase, 2 * side * side * side, 3 * side * side * static_cast<double>(element_bytes_),
        [=] { return linear->Forward(context, x, weight, nullptr, y); });
    return absl::OkStatus();
  }

  // FLOPs as FlashAttention's authors count them: half of all pairs, and in the backward pass five products, whether or
  // not two of them are computed twice.
  absl::Status AddAttention() {
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<CausalAttention> attention,
                              backend_->CreateCausalAttention({.batch = sizes_.batch,
                                                               .seq_length = sizes_.seq_length,
                                                               .heads = sizes_.heads,
                                                               .head_dim = sizes_.hidden / sizes_.heads,
                                                               .type = sizes_.type}));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const qkv, Numbers(3 * elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const out, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const dout, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const dqkv, Numbers(3 * elements_));
    PENSTOCK_ASSIGN_OR_RETURN(float* const log_sum_exp, Floats(positions_ * sizes_.heads));
    PENSTOCK_ASSIGN_OR_RETURN(const auto context, ContextFor(*attention));
    const double product = static_cast<double>(elements_) * static_cast<double>(sizes_.seq_length);
    Add("attention forward", 2 * product, TensorBytes(4),
        [=] { return attention->Forward(context, qkv, out, log_sum_exp); });
    // From what the forward pass has left, as in a step.
    PENSTOCK_RETURN_IF_ERROR(result_.cases.back().run());
    Add("attention backward", 5 * product, TensorBytes(8),
        [=] { return attention->Backward(context, qkv, out, log_sum_exp, dout, dqkv); });
    return absl::OkStatus();
  }

  // A layer's products, one of each kind.
  absl::Status AddLinear() {
    const int64_t hidden = sizes_.hidden;
    const int64_t inner = 4 * hidden;
    const auto create = [&](int64_t in, int64_t out, WeightLayout layout, WithGelu gelu) {
      return backend_->CreateLinear({.rows = positions_,
                                     .in = in,
                                     .out = out,
                                     .layout = layout,
                                     .has_bias = true,
                                     .type = sizes_.type,
                                     .gelu = gelu});
    };
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<Linear> qkv,
                              create(hidden, 3 * hidden, WeightLayout::kOutIn, WithGelu::kNot));
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<Linear> proj,
                              create(hidden, hidden, WeightLayout::kInOut, WithGelu::kNot));
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<Linear> fc,
                              create(hidden, inner, WeightLayout::kOutIn, WithGelu::kBehind));
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<Linear> mlp_proj,
                              create(inner, hidden, WeightLayout::kInOut, WithGelu::kBefore));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const narrow, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const other, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const wide, Numbers(4 * elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const other_wide, Numbers(4 * elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const weight, Numbers(hidden * inner));
    PENSTOCK_ASSIGN_OR_RETURN(float* const dweight, Floats(hidden * inner + inner));
    PENSTOCK_ASSIGN_OR_RETURN(const auto qkv_context, ContextFor(*qkv));
    PENSTOCK_ASSIGN_OR_RETURN(const auto proj_context, ContextFor(*proj));
    PENSTOCK_ASSIGN_OR_RETURN(const auto fc_context, ContextFor(*fc));
    PENSTOCK_ASSIGN_OR_RETURN(const auto mlp_context, ContextFor(*mlp_proj));
    // Of a product (rows, hidden) by (hidden, hidden).
    const double unit = 2 * static_cast<double>(elements_) * static_cast<double>(hidden);
    float* const dbias = dweight + hidden * inner;
    Add("linear forward", 3 * unit, TensorBytes(4),
        [=] { return qkv->Forward(qkv_context, narrow, weight, weight, wide); });
    Add("linear forward, added to", unit, TensorBytes(3),
        [=] { return proj->ForwardAdd(proj_context, narrow, weight, weight, wide, other); });
    Add("linear forward with gelu", 4 * unit, TensorBytes(9),
        [=] { return fc->ForwardGelu(fc_context, narrow, weight, weight, wide, other_wide); });
    Add("linear input gradient with gelu", 4 * unit, TensorBytes(9),
        [=] { return mlp_proj->BackwardInputGelu(mlp_context, narrow, weight, wide, other_wide); });
    Add("linear input gradient", 4 * unit, TensorBytes(5),
        [=] { return fc->BackwardInput(fc_context, wide, weight, other); });
    Add("linear weight and bias gradient", 4 * unit, TensorBytes(9),
        [=] { return fc->BackwardWeight(fc_context, narrow, wide, dweight, dbias, GradientMode::kWrite); });
    return absl::OkStatus();
  }

  // As many rows as a rank takes at a time, or others; `name` says which.
  absl::Status AddHead(int64_t head_rows, const std::string& name) {
    LinearCrossEntropyShape shape = {.rows = std::min(positions_, head_rows),
                                     .in = sizes_.hidden,
                                     .vocab_size = sizes_.vocab_size,
                                     .vocab_end = sizes_.vocab_size};
    shape.type = sizes_.type;
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<LinearCrossEntropy> head, backend_->CreateLinearCrossEntropy(shape));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const x, Numbers(shape.rows * shape.in));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const dx, Numbers(shape.rows * shape.in));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const weight, Numbers(shape.vocab_size * shape.in));
    PENSTOCK_ASSIGN_OR_RETURN(float* const dweight, Floats(shape.vocab_size * shape.in));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const logits, Allocate(head->logits_bytes()));
    // Zeros: all targets are the first token.
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const targets_there, Allocate(shape.rows * 4));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const rows_there,
                              Allocate(shape.rows * static_cast<int64_t>(sizeof(RowReduction))));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const loss_there, Allocate(static_cast<int64_t>(sizeof(LossSum))));
    PENSTOCK_ASSIGN_OR_RETURN(const auto context, ContextFor(*head));
    const auto* const targets = reinterpret_cast<const int32_t*>(targets_there);
    auto* const rows = reinterpret_cast<RowReduction*>(rows_there);
    auto* const loss = reinterpret_cast<LossSum*>(loss_there);
    const double logit_count = static_cast<double>(shape.rows) * static_cast<double>(shape.vocab_size);
    const double product = 2 * logit_count * static_cast<double>(shape.in);
    const double bytes = logit_count * static_cast<double>(element_bytes_);
    Add("head forward with its loss" + name, product, 3 * bytes, [=] {
      PENSTOCK_RETURN_IF_ERROR(head->Forward(context, x, weight, targets, logits, rows, HeadPass::kTraining));
      return head->Loss(context, rows, targets, loss, GradientMode::kWrite);
    });
    PENSTOCK_RETURN_IF_ERROR(result_.cases.back().run());
    Add("head backward" + name, 2 * product, 2 * bytes,
        [=] { return head->Backward(context, x, weight, rows, targets, logits, dx, dweight, GradientMode::kWrite); });
    return absl::OkStatus();
  }

  absl::Status AddLayerNorm() {
    PENSTOCK_ASSIGN_OR_RETURN(
        std::shared_ptr<LayerNorm> norm,
        backend_->CreateLayerNorm({.rows = positions_, .width = sizes_.hidden, .type = sizes_.type}));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const x, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const other, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const sum, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const y, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const gamma, Numbers(sizes_.hidden));
    PENSTOCK_ASSIGN_OR_RETURN(float* const statistics, Floats(2 * positions_));
    PENSTOCK_ASSIGN_OR_RETURN(float* const gradients, Floats(2 * sizes_.hidden));
    PENSTOCK_ASSIGN_OR_RETURN(const auto context, ContextFor(*norm));
    float* const reciprocal_std = statistics + positions_;
    Add("layer norm forward", 0, TensorBytes(2),
        [=] { return norm->Forward(context, x, gamma, gamma, y, statistics, reciprocal_std); });
    PENSTOCK_RETURN_IF_ERROR(result_.cases.back().run());
    Add("layer norm of a sum", 0, TensorBytes(4),
        [=] { return norm->ForwardOfSum(context, x, other, sum, gamma, gamma, y, statistics, reciprocal_std); });
    Add("layer norm backward", 0, TensorBytes(4), [=, hidden = sizes_.hidden] {
      return norm->Backward(context, x, gamma, statistics, reciprocal_std, other, y, gradients, gradients + hidden);
    });
    return absl::OkStatus();
  }

  absl::Status AddElementwise() {
    const int64_t inner = 4 * elements_;
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<Gelu> gelu, backend_->CreateGelu(inner, sizes_.type));
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<ResidualAdd> add, backend_->CreateResidualAdd(elements_, sizes_.type));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const x, Numbers(inner));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const dy, Numbers(inner));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const y, Numbers(inner));
    Add("gelu forward", 0, TensorBytes(8), [=] { return gelu->Forward({}, x, y); });
    Add("gelu backward", 0, TensorBytes(12), [=] { return gelu->Backward({}, x, dy, y); });
    Add("residual add", 0, TensorBytes(3), [=] { return add->Forward({}, x, dy, y); });
    return absl::OkStatus();
  }

  absl::Status AddEmbedding() {
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<Embedding> embedding,
                              backend_->CreateEmbedding({.batch = sizes_.batch,
                                                         .seq_length = sizes_.seq_length,
                                                         .vocab_size = sizes_.vocab_size,
                                                         .hidden = sizes_.hidden,
                                                         .type = sizes_.type}));
    // As in texts: the k-th most frequent token about 1 / k times as often as the first (Zipf).
    std::minstd_rand generator(1);
    std::vector<int32_t> tokens(static_cast<size_t>(positions_));
    const double vocabulary = static_cast<double>(sizes_.vocab_size);
    for (int32_t& token : tokens) {
      const double unit = std::uniform_real_distribution<double>()(generator);
      token = std::min(static_cast<int32_t>(std::pow(vocabulary, unit)), static_cast<int32_t>(sizes_.vocab_size - 1));
    }
    const double distinct = static_cast<double>(std::set<int32_t>(tokens.begin(), tokens.end()).size());
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const ids, Allocate(positions_ * 4));
    PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, tokens.data(), ids, positions_ * 4));
    PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const wte, Numbers(sizes_.vocab_size * sizes_.hidden));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const wpe, Numbers(sizes_.seq_length * sizes_.hidden));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const x, Numbers(elements_));
    PENSTOCK_ASSIGN_OR_RETURN(float* const dwte, Floats(sizes_.vocab_size * sizes_.hidden));
    PENSTOCK_ASSIGN_OR_RETURN(float* const dwpe, Floats(sizes_.seq_length * sizes_.hidden));
    PENSTOCK_ASSIGN_OR_RETURN(const auto context, ContextFor(*embedding));
    const auto* const tokens_there = reinterpret_cast<const int32_t*>(ids);
    const double row = static_cast<double>(sizes_.hidden);
    const double rows = distinct + static_cast<double>(sizes_.seq_length);
    Add("embedding forward", 0, TensorBytes(1) + rows * row * static_cast<double>(element_bytes_),
        [=] { return embedding->Forward(context, tokens_there, wte, wpe, x); });
    Add("embedding backward", 0, TensorBytes(1) + rows * row * 8,
        [=] { return embedding->Backward(context, tokens_there, x, dwte, dwpe); });
    return absl::OkStatus();
  }

  absl::Status AddOptimizer() {
    const int64_t n = sizes_.parameters;
    const double count = static_cast<double>(n);
    PENSTOCK_ASSIGN_OR_RETURN(float* const gradient, Floats(n));
    PENSTOCK_ASSIGN_OR_RETURN(float* const weights, Floats(n));
    PENSTOCK_ASSIGN_OR_RETURN(float* const exp_avg, Floats(n));
    // Zeros, as averages of squares aren't negative.
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const exp_avg_sq, Allocate(n * 4));
    PENSTOCK_ASSIGN_OR_RETURN(std::byte* const rounded, Allocate(n * 2));
    const AdamWParams params = {
        .learning_rate = 1e-4F, .beta1 = 0.9F, .beta2 = 0.999F, .epsilon = 1e-8F, .weight_decay = 0.1F};
    const auto span = [n](float* from) { return std::span<float>(from, static_cast<size_t>(n)); };
    const auto update = [=, backend = backend_](std::span<Bfloat16> to) {
      return backend->AdamW({}, params, span(gradient), span(weights), span(exp_avg),
                            span(reinterpret_cast<float*>(exp_avg_sq)), to);
    };
    Add("adamw", 0, count * 28, [=] { return update({}); });
    Add("adamw, with bf16 weights", 0, count * 30, [=] {
      return update({reinterpret_cast<Bfloat16*>(rounded), static_cast<size_t>(n)});
    });
    constexpr int64_t kPiece = 65536;
    std::vector<std::span<const float>> pieces;
    for (int64_t at = 0; at < n; at += kPiece) {
      pieces.push_back(span(gradient).subspan(static_cast<size_t>(at), static_cast<size_t>(std::min(kPiece, n - at))));
    }
    auto sums = std::make_shared<std::vector<double>>(pieces.size());
    Add("sums of squares", 0, count * 4,
        [=, backend = backend_] { return backend->SquareSums({}, pieces, sums->data()); });
    Add("conversion to bf16", 0, count * 6, [=, backend = backend_] {
      return backend->Convert({}, DataType::kFloat32, weights, DataType::kBfloat16, rounded, n);
    });
    return absl::OkStatus();
  }

  Backend* const backend_;
  const KernelSizes sizes_;
  const int64_t positions_;
  const int64_t elements_;
  const int64_t element_bytes_;
  KernelCases result_;
};

}  // namespace

absl::StatusOr<KernelCases> MakeKernelCases(Backend* backend, const KernelSizes& sizes) {
  if (sizes.heads <= 0 || sizes.hidden % sizes.heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("hidden is ", sizes.hidden, " and heads is ", sizes.heads, "; expected heads that divide hidden"));
  }
  return Maker(backend, sizes).Make();
}

}  // namespace penstock
