// The parameters of one GPT-2 layer, by name. A value.
#ifndef PENSTOCK_WORKER_MODEL_GPT2_LAYER_TENSORS_H_
#define PENSTOCK_WORKER_MODEL_GPT2_LAYER_TENSORS_H_

#include <functional>
#include <string_view>

namespace penstock {

// Where the layer's parameters are, or their gradients, in canonical layout.
template <typename Pointer>
struct Gpt2LayerTensors {
  Pointer ln_1_weight;      // (C)
  Pointer ln_1_bias;        // (C)
  Pointer qkv_weight;       // (H, 3, D, C)
  Pointer qkv_bias;         // (H, 3, D)
  Pointer proj_weight;      // (A, C), in first
  Pointer proj_bias;        // (C)
  Pointer ln_2_weight;      // (C)
  Pointer ln_2_bias;        // (C)
  Pointer fc_weight;        // (F, C), out first
  Pointer fc_bias;          // (F)
  Pointer mlp_proj_weight;  // (F, C), in first
  Pointer mlp_proj_bias;    // (C)

  // find("ln_1.weight") gives where that parameter of the layer is.
  static Gpt2LayerTensors Find(const std::function<Pointer(std::string_view)>& find) {
    return {.ln_1_weight = find("ln_1.weight"),
            .ln_1_bias = find("ln_1.bias"),
            .qkv_weight = find("attn.qkv.weight"),
            .qkv_bias = find("attn.qkv.bias"),
            .proj_weight = find("attn.proj.weight"),
            .proj_bias = find("attn.proj.bias"),
            .ln_2_weight = find("ln_2.weight"),
            .ln_2_bias = find("ln_2.bias"),
            .fc_weight = find("mlp.fc.weight"),
            .fc_bias = find("mlp.fc.bias"),
            .mlp_proj_weight = find("mlp.proj.weight"),
            .mlp_proj_bias = find("mlp.proj.bias")};
  }
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_LAYER_TENSORS_H_
