// The sizes of a GPT-2 micro-batch on one tensor rank, by the letters that shapes are written in.
#ifndef PENSTOCK_WORKER_MODEL_GPT2_SHAPE_H_
#define PENSTOCK_WORKER_MODEL_GPT2_SHAPE_H_

#include <cstdint>

#include "core/base/data_type.h"
#include "core/layout/range.h"
#include "core/layout/tensor_shard.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

struct Gpt2Shape {
  int64_t batch = 0;       // B, samples in a micro-batch
  int64_t seq_length = 0;  // T
  int64_t hidden = 0;      // C
  int64_t head_dim = 0;    // D
  float epsilon = 0;
  int64_t vocab_size = 0;              // of the model
  DataType type = DataType::kFloat32;  // of weights, activations and their gradients

  // What this tensor rank has of the layers: all of it without tensor parallelism.
  TensorShard tensor;
  int64_t heads = 0;       // H
  int64_t mlp_hidden = 0;  // F
  ElementRange vocab;      // V tokens, [begin, end)

  static Gpt2Shape Of(const v1::ModelSpec& spec, int64_t micro_batch_size, const TensorShard& tensor, DataType type) {
    return {.batch = micro_batch_size,
            .seq_length = spec.seq_length(),
            .hidden = spec.hidden(),
            .head_dim = spec.hidden() / spec.heads(),
            .epsilon = static_cast<float>(spec.layer_norm_epsilon()),
            .vocab_size = spec.vocab_size(),
            .type = type,
            .tensor = tensor,
            .heads = ShardOfAxis(spec.heads(), tensor).size(),
            .mlp_hidden = ShardOfAxis(spec.mlp_hidden(), tensor).size(),
            .vocab = ShardOfAxis(spec.vocab_size(), tensor)};
  }

  int64_t rows() const { return batch * seq_length; }            // B T
  int64_t boundary_elements() const { return rows() * hidden; }  // B T C
  int64_t boundary_bytes() const { return boundary_elements() * BytesOf(type); }
  int64_t attention_width() const { return heads * head_dim; }  // A, which is C without tensor parallelism
  // Sums over the tensor group hold what is replicated once: tensor rank 0 adds it.
  bool adds_replicated() const { return tensor.rank == 0; }
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_SHAPE_H_
