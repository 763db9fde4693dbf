#include "worker/model/testing/reference_gpt2.h"

#include <string>
#include <utility>

#include "core/base/status_macros.h"

namespace penstock::reference {

double Gpt2Loss(const v1::ModelSpec& spec, const ParameterTable& table, const Values& weights, const Tokens& tokens,
                const Tokens& targets, const Gpt2Dropout& dropout) {
  const auto at = [&](const std::string& name) {
    const Parameter* parameter = table.Find(name);
    PENSTOCK_CHECK(parameter != nullptr);
    return Values(weights.begin() + parameter->begin, weights.begin() + parameter->end);
  };
  const int64_t rows = static_cast<int64_t>(tokens.size());
  const int64_t seq = spec.seq_length();
  const int64_t hidden = spec.hidden();
  const int64_t mlp = spec.mlp_hidden();
  const LayerNormShape norm = {.rows = rows, .width = hidden, .epsilon = static_cast<float>(spec.layer_norm_epsilon())};
  const auto linear = [&](const Values& x, const std::string& name, int64_t in, int64_t out, WeightLayout layout) {
    return LinearForward({.rows = rows, .in = in, .out = out, .layout = layout, .has_bias = true}, x,
                         at(name + ".weight"), at(name + ".bias"));
  };

  const auto dropped = [&](uint32_t site, Values values) {
    const int64_t elements = seq * hidden;  // of a sample
    for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
      const int64_t element = i % elements;
      uint32_t words[4];
      DropoutBits(dropout.rule, dropout.first_sample + static_cast<uint64_t>(i / elements), site,
                  static_cast<uint32_t>(element / kDropoutBlock), words);
      const bool keeps = DropoutKeeps(dropout.rule, words, static_cast<int>(element % kDropoutBlock));
      values[static_cast<size_t>(i)] *= keeps ? static_cast<double>(dropout.rule.scale) : 0.0;
    }
    return values;
  };

  Values x =
      EmbeddingForward({.batch = rows / seq, .seq_length = seq, .vocab_size = spec.vocab_size(), .hidden = hidden},
                       tokens, at("wte"), at("wpe"));
  x = dropped(0, std::move(x));
  for (uint32_t i = 0; i < spec.layers(); ++i) {
    const std::string layer = "h." + std::to_string(i) + ".";
    Values y = LayerNormForward(norm, x, at(layer + "ln_1.weight"), at(layer + "ln_1.bias"));
    y = linear(y, layer + "attn.qkv", hidden, 3 * hidden, WeightLayout::kOutIn);
    y = AttentionForward({.batch = rows / seq,
                          .seq_length = seq,
                          .heads = spec.heads(),
                          .head_dim = hidden / static_cast<int64_t>(spec.heads())},
                         y);
    x = Add(x, dropped(2 * i + 1, linear(y, layer + "attn.proj", hidden, hidden, WeightLayout::kInOut)));
    y = LayerNormForward(norm, x, at(layer + "ln_2.weight"), at(layer + "ln_2.bias"));
    y = GeluForward(linear(y, layer + "mlp.fc", hidden, mlp, WeightLayout::kOutIn));
    x = Add(x, dropped(2 * i + 2, linear(y, layer + "mlp.proj", mlp, hidden, WeightLayout::kInOut)));
  }
  x = LayerNormForward(norm, x, at("ln_f.weight"), at("ln_f.bias"));
  const Values logits = LinearForward(
      {.rows = rows, .in = hidden, .out = spec.vocab_size(), .layout = WeightLayout::kOutIn}, x, at("wte"), {});
  return CrossEntropyForward({.rows = rows, .vocab_size = spec.vocab_size()}, logits, targets);
}

}  // namespace penstock::reference
