#include "worker/generate/gpt2_decoder.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/generate/row_products.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock {
namespace {

// gelu_new of GPT-2: the tanh approximation.
float Gelu(float x) {
  constexpr float kScale = 0.7978845608028654F;  // sqrt(2 / pi)
  return 0.5F * x * (1.0F + std::tanh(kScale * (x + 0.044715F * x * x * x)));
}

}  // namespace

Gpt2Decoder::Gpt2Decoder(const v1::ModelSpec& model, const ParameterTable& table, int threads)
    : table_(table),
      layer_count_(model.layers()),
      hidden_(model.hidden()),
      heads_(model.heads()),
      head_dim_(model.hidden() / model.heads()),
      positions_(model.seq_length()),
      vocab_size_(model.vocab_size()),
      mlp_hidden_(model.mlp_hidden()),
      epsilon_(static_cast<float>(model.layer_norm_epsilon())),
      threads_(threads) {}

absl::StatusOr<std::unique_ptr<Gpt2Decoder>> Gpt2Decoder::Create(const v1::ModelSpec& model,
                                                                 const ParameterTable& table, int threads) {
  if (model.family() != v1::ModelSpec::FAMILY_GPT2) {
    return absl::InvalidArgumentError("only a GPT-2 can generate in this version");
  }
  std::unique_ptr<Gpt2Decoder> decoder(new Gpt2Decoder(model, table, threads));
  PENSTOCK_RETURN_IF_ERROR(decoder->Allocate());
  return decoder;
}

absl::Status Gpt2Decoder::Allocate() {
  const int64_t cache = 2 * layer_count_ * positions_ * hidden_;
  weights_.reset(new (std::nothrow) float[static_cast<size_t>(table_.size())]);
  cache_.reset(new (std::nothrow) float[static_cast<size_t>(cache)]);
  if (weights_ == nullptr || cache_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("the model needs ", 4 * (table_.size() + cache),
                                                     " bytes to generate, which this worker hasn't got"));
  }
  float* at = cache_.get();
  for (int64_t i = 0; i < layer_count_; ++i) {
    const std::string prefix = absl::StrCat("h.", i, ".");
    const auto find = [&](std::string_view name) { return Find(prefix + std::string(name)); };
    layers_.push_back(
        {.weights = Gpt2LayerTensors<const float*>::Find(find), .keys = at, .values = at + positions_ * hidden_});
    at += 2 * positions_ * hidden_;
  }
  const auto rows = static_cast<size_t>(kRowsMax);
  x_.resize(rows * static_cast<size_t>(hidden_));
  norm_.resize(x_.size());
  attention_.resize(x_.size());
  qkv_.resize(3 * x_.size());
  inner_.resize(rows * static_cast<size_t>(mlp_hidden_));
  scores_.resize(static_cast<size_t>(heads_ * positions_));
  return absl::OkStatus();
}

const float* Gpt2Decoder::Find(const std::string& name) const {
  const Parameter* parameter = table_.Find(name);
  PENSTOCK_CHECK(parameter != nullptr);
  return weights_.get() + parameter->begin;
}

void Gpt2Decoder::Norm(const float* in, const float* weight, const float* bias, float* out, int64_t rows) const {
  for (int64_t row = 0; row < rows; ++row, in += hidden_, out += hidden_) {
    double sum = 0;
    for (int64_t i = 0; i < hidden_; ++i) sum += in[i];
    const double mean = sum / static_cast<double>(hidden_);
    double squares = 0;
    for (int64_t i = 0; i < hidden_; ++i) squares += (in[i] - mean) * (in[i] - mean);
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(hidden_) + epsilon_);
    for (int64_t i = 0; i < hidden_; ++i) {
      out[i] = static_cast<float>((in[i] - mean) * scale) * weight[i] + bias[i];
    }
  }
}

// Keeps the rows' keys and values, and mixes the values that each row sees into attention_.
void Gpt2Decoder::Attend(const Layer& layer, int64_t rows) {
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim_));
  ParallelStrided(threads_, heads_, [&](int, int64_t head) {
    float* keys = layer.keys + head * positions_ * head_dim_;      // (T, D)
    float* values = layer.values + head * positions_ * head_dim_;  // (T, D)
    float* scores = scores_.data() + head * positions_;            // (T)
    for (int64_t row = 0; row < rows; ++row) {
      const float* query = qkv_.data() + (row * heads_ + head) * 3 * head_dim_;  // (3, D)
      const int64_t position = length_ + row;
      std::copy_n(query + head_dim_, head_dim_, keys + position * head_dim_);
      std::copy_n(query + 2 * head_dim_, head_dim_, values + position * head_dim_);
      float highest = -INFINITY;
      for (int64_t t = 0; t <= position; ++t) {
        float score = 0;
        for (int64_t d = 0; d < head_dim_; ++d) score += query[d] * keys[t * head_dim_ + d];
        scores[t] = score * scale;
        highest = std::max(highest, scores[t]);
      }
      float total = 0;
      for (int64_t t = 0; t <= position; ++t) {
        scores[t] = std::exp(scores[t] - highest);
        total += scores[t];
      }
      float* out = attention_.data() + row * hidden_ + head * head_dim_;  // (D)
      std::fill_n(out, head_dim_, 0.0F);
      for (int64_t t = 0; t <= position; ++t) {
        for (int64_t d = 0; d < head_dim_; ++d) out[d] += scores[t] / total * values[t * head_dim_ + d];
      }
    }
  });
}

void Gpt2Decoder::RunLayer(const Layer& layer, int64_t rows) {
  const Gpt2LayerTensors<const float*>& weights = layer.weights;
  Norm(x_.data(), weights.ln_1_weight, weights.ln_1_bias, norm_.data(), rows);
  MultiplyOutIn(norm_.data(), weights.qkv_weight, weights.qkv_bias, qkv_.data(), rows, hidden_, 3 * hidden_, threads_);
  Attend(layer, rows);
  AddMultiplyInOut(attention_.data(), weights.proj_weight, weights.proj_bias, x_.data(), rows, hidden_, hidden_,
                   threads_);
  Norm(x_.data(), weights.ln_2_weight, weights.ln_2_bias, norm_.data(), rows);
  MultiplyOutIn(norm_.data(), weights.fc_weight, weights.fc_bias, inner_.data(), rows, hidden_, mlp_hidden_, threads_);
  ParallelFor(threads_, rows * mlp_hidden_, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) inner_[static_cast<size_t>(i)] = Gelu(inner_[static_cast<size_t>(i)]);
  });
  AddMultiplyInOut(inner_.data(), weights.mlp_proj_weight, weights.mlp_proj_bias, x_.data(), rows, mlp_hidden_, hidden_,
                   threads_);
}

absl::Status Gpt2Decoder::Append(std::span<const int32_t> tokens, std::span<float> logits) {
  const auto rows = static_cast<int64_t>(tokens.size());
  if (rows < 1 || rows > kRowsMax || length_ + rows > positions_) {
    return absl::FailedPreconditionError(
        absl::StrCat(rows, " tokens don't follow ", length_, " ones of ", positions_, " positions"));
  }
  const float* wte = Find("wte");                      // (V, C)
  const float* wpe = Find("wpe") + length_ * hidden_;  // (T, C), from the first new position on
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t token = tokens[static_cast<size_t>(row)];
    if (token < 0 || token >= vocab_size_) {
      return absl::InvalidArgumentError(absl::StrCat("token ", token, " isn't one of the model's ", vocab_size_));
    }
    for (int64_t i = 0; i < hidden_; ++i) {
      x_[static_cast<size_t>(row * hidden_ + i)] = wte[token * hidden_ + i] + wpe[row * hidden_ + i];
    }
  }
  for (const Layer& layer : layers_) RunLayer(layer, rows);
  length_ += rows;
  if (logits.empty()) return absl::OkStatus();
  PENSTOCK_CHECK(static_cast<int64_t>(logits.size()) == vocab_size_);
  Norm(x_.data() + (rows - 1) * hidden_, Find("ln_f.weight"), Find("ln_f.bias"), norm_.data(), 1);
  MultiplyOutIn(norm_.data(), wte, nullptr, logits.data(), 1, hidden_, vocab_size_, threads_);
  return absl::OkStatus();
}

}  // namespace penstock
