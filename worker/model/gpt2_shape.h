// The sizes of a GPT-2 micro-batch, by the letters that shapes are written in.
#ifndef PENSTOCK_WORKER_MODEL_GPT2_SHAPE_H_
#define PENSTOCK_WORKER_MODEL_GPT2_SHAPE_H_

#include <cstdint>

#include "protos/penstock/v1/job.pb.h"

namespace penstock {

struct Gpt2Shape {
  int64_t batch = 0;       // B, samples in a micro-batch
  int64_t seq_length = 0;  // T
  int64_t hidden = 0;      // C
  int64_t heads = 0;       // H; the head's width is C / H
  int64_t mlp_hidden = 0;  // F
  int64_t vocab_size = 0;  // V
  float epsilon = 0;

  static Gpt2Shape Of(const v1::ModelSpec& spec, int64_t micro_batch_size) {
    return {.batch = micro_batch_size,
            .seq_length = spec.seq_length(),
            .hidden = spec.hidden(),
            .heads = spec.heads(),
            .mlp_hidden = spec.mlp_hidden(),
            .vocab_size = spec.vocab_size(),
            .epsilon = static_cast<float>(spec.layer_norm_epsilon())};
  }

  int64_t rows() const { return batch * seq_length; }            // B T
  int64_t boundary_elements() const { return rows() * hidden; }  // B T C
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_SHAPE_H_
