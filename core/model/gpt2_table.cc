// The table of GPT-2 (Radford et al. 2019): learned positions, pre-norm layers, head tied to the token embedding.
#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/model/table_builder.h"

namespace penstock {
namespace {

struct Sizes {
  int64_t layers, hidden, heads, positions, vocab, mlp;
};

// FLOPs of one layer's matrix products for one sample; element-wise work is left out, as it hardly counts beside them.
double LayerForwardFlops(const Sizes& s) {
  const double tokens = static_cast<double>(s.positions);
  const double hidden = static_cast<double>(s.hidden);
  const double linear = 2 * tokens * (4 * hidden * hidden + 2 * hidden * static_cast<double>(s.mlp));
  // Scores and their product with the values, for the pairs that the causal mask leaves.
  const double attention = 2 * 2 * hidden * tokens * (tokens + 1) / 2;
  return linear + attention;
}

// Fused QKV, attention's output, both sides of GELU and each row's log-sum-exp: divided by heads and by width.
int64_t LayerSplitActivationBytes(const Sizes& s) {
  return 4 * (4 * s.positions * s.hidden + 2 * s.positions * s.mlp + s.heads * s.positions);
}
// Inputs and outputs of both norms, with mean and reciprocal deviation.
int64_t LayerActivationBytes(const Sizes& s) {
  return LayerSplitActivationBytes(s) + 4 * (4 * s.positions * s.hidden + 4 * s.positions);
}

void AddEmbedding(const Sizes& s, double init_std, TableBuilder* builder) {
  Block& block = builder->BeginBlock("embedding", BlockKind::kEmbedding);
  block.forward_flops_per_sample = static_cast<double>(s.positions) * static_cast<double>(s.hidden);
  block.backward_flops_per_sample = 2 * block.forward_flops_per_sample;
  block.boundary_elements_per_sample = s.positions * s.hidden;
  block.activation_bytes_per_sample = 4 * s.positions;
  block.wide_activation_bytes_per_sample = block.activation_bytes_per_sample;
  builder->AddWeight("wte", {s.vocab, s.hidden}, SplitAxis::kSplit, init_std).tied = true;
  builder->AddWeight("wpe", {s.positions, s.hidden}, SplitAxis::kReplicated, init_std);
}

void AddLayer(const Sizes& s, int64_t layer, double init_std, TableBuilder* builder) {
  const std::string prefix = absl::StrCat("h.", layer, ".");
  Block& block = builder->BeginBlock(absl::StrCat("h.", layer), BlockKind::kLayer);
  block.forward_flops_per_sample = LayerForwardFlops(s);
  block.backward_flops_per_sample = 2 * block.forward_flops_per_sample;
  block.boundary_elements_per_sample = s.positions * s.hidden;
  block.activation_bytes_per_sample = LayerActivationBytes(s);
  block.split_activation_bytes_per_sample = LayerSplitActivationBytes(s);
  block.split_wide_activation_bytes_per_sample = 4 * s.heads * s.positions;
  block.wide_activation_bytes_per_sample = block.split_wide_activation_bytes_per_sample + 4 * 4 * s.positions;
  block.scratch_bytes_per_sample = 4 * s.positions * std::max(3 * s.hidden, s.mlp);

  // The two projections that feed the residual stream are scaled down, so that its variance doesn't grow with depth.
  const double residual_std = init_std / std::sqrt(2.0 * static_cast<double>(s.layers));
  const int64_t head_dim = s.hidden / s.heads;
  builder->AddLayerNorm(prefix + "ln_1", s.hidden);
  builder->AddWeight(prefix + "attn.qkv.weight", {s.heads, 3, head_dim, s.hidden}, SplitAxis::kSplit, init_std);
  builder->AddBias(prefix + "attn.qkv.bias", {s.heads, 3, head_dim}, SplitAxis::kSplit);
  builder->AddWeight(prefix + "attn.proj.weight", {s.hidden, s.hidden}, SplitAxis::kSplit, residual_std);
  builder->AddBias(prefix + "attn.proj.bias", {s.hidden}, SplitAxis::kReplicated);
  builder->AddLayerNorm(prefix + "ln_2", s.hidden);
  builder->AddWeight(prefix + "mlp.fc.weight", {s.mlp, s.hidden}, SplitAxis::kSplit, init_std);
  builder->AddBias(prefix + "mlp.fc.bias", {s.mlp}, SplitAxis::kSplit);
  builder->AddWeight(prefix + "mlp.proj.weight", {s.mlp, s.hidden}, SplitAxis::kSplit, residual_std);
  builder->AddBias(prefix + "mlp.proj.bias", {s.hidden}, SplitAxis::kReplicated);
}

void AddHead(const Sizes& s, TableBuilder* builder) {
  Block& block = builder->BeginBlock("head", BlockKind::kHead);
  block.uses_tied = true;
  block.forward_flops_per_sample =
      2 * static_cast<double>(s.positions) * static_cast<double>(s.hidden) * static_cast<double>(s.vocab);
  block.backward_flops_per_sample = 2 * block.forward_flops_per_sample;
  block.boundary_elements_per_sample = 0;
  // The norm's input, its statistics, and the gradient of its output.
  block.activation_bytes_per_sample = 4 * s.positions * (2 * s.hidden + 2);
  block.wide_activation_bytes_per_sample = 4 * s.positions * 2;
  block.scratch_bytes_per_sample = 4 * s.positions * s.vocab;
  builder->AddLayerNorm("ln_f", s.hidden);
}

}  // namespace

ParameterTable BuildGpt2Table(const v1::ModelSpec& model) {
  const Sizes sizes{.layers = model.layers(),
                    .hidden = model.hidden(),
                    .heads = model.heads(),
                    .positions = model.seq_length(),
                    .vocab = model.vocab_size(),
                    .mlp = model.mlp_hidden()};
  TableBuilder builder;
  AddEmbedding(sizes, model.init_std(), &builder);
  for (int64_t layer = 0; layer < sizes.layers; ++layer) AddLayer(sizes, layer, model.init_std(), &builder);
  AddHead(sizes, &builder);
  return std::move(builder).Finish();
}

}  // namespace penstock
