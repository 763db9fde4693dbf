// Token plus learned position embedding: x[b, t] = wte[tokens[b, t]] + wpe[t].
#ifndef PENSTOCK_WORKER_OPS_EMBEDDING_H_
#define PENSTOCK_WORKER_OPS_EMBEDDING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/data_type.h"
#include "worker/ops/context.h"

namespace penstock {

struct EmbeddingShape {
  int64_t batch = 0;
  int64_t seq_length = 0;
  int64_t vocab_size = 0;
  int64_t hidden = 0;
  DataType type = DataType::kFloat32;
};

class Embedding : public Operation {
 public:
  // tokens (batch, seq), wte [vocab, hidden], wpe [seq or more, hidden]; writes x (batch, seq, hidden).
  // INVALID_ARGUMENT, with nothing written, for a token outside the vocabulary.
  virtual absl::Status Forward(const OpContext& context, const int32_t* tokens, const void* wte, const void* wpe,
                               void* x) const = 0;
  // dx (batch, seq, hidden); adds to dwte and dwpe, each row's contributions in the order of (b, t).
  virtual absl::Status Backward(const OpContext& context, const int32_t* tokens, const void* dx, float* dwte,
                                float* dwpe) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_EMBEDDING_H_
