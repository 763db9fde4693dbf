// A GPT-2 of a test's sizes, with what a job's defaults fill in.
#ifndef PENSTOCK_CORE_MODEL_TEST_GPT2_H_
#define PENSTOCK_CORE_MODEL_TEST_GPT2_H_

#include <cstdint>

#include "protos/penstock/v1/job.pb.h"

namespace penstock {

struct TestGpt2Sizes {
  uint32_t layers = 2;
  uint32_t hidden = 8;
  uint32_t heads = 2;
  uint32_t seq_length = 8;
  uint32_t vocab_size = 256;
  uint32_t mlp_hidden = 32;
};

inline v1::ModelSpec TestGpt2(const TestGpt2Sizes& sizes) {
  v1::ModelSpec spec;
  spec.set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.set_layers(sizes.layers);
  spec.set_hidden(sizes.hidden);
  spec.set_heads(sizes.heads);
  spec.set_seq_length(sizes.seq_length);
  spec.set_vocab_size(sizes.vocab_size);
  spec.set_mlp_hidden(sizes.mlp_hidden);
  spec.set_init_std(0.02);
  spec.set_layer_norm_epsilon(1e-5);
  return spec;
}

}  // namespace penstock

#endif  // PENSTOCK_CORE_MODEL_TEST_GPT2_H_
