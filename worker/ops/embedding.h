// Token plus learned position embedding: x[b, t] = wte[tokens[b, t]] + wpe[t].
//
// Vocabulary-parallel (Shoeybi et al. 2019): each tensor rank holds some rows of wte and takes the other rows' tokens
// for zeros, so that the sum over the tensor group is the embedding; one of them adds the positions.
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
  // The rows of wte that are here; 0 for vocab_end means vocab_size.
  int64_t vocab_begin = 0;
  int64_t vocab_end = 0;

  bool Holds(int64_t token) const { return token >= vocab_begin && token < (vocab_end == 0 ? vocab_size : vocab_end); }
};

class Embedding : public Operation {
 public:
  // tokens (batch, seq), which were checked (worker/ops/token_checks.h), wte [vocab_end - vocab_begin, hidden], wpe
  // [seq or more, hidden] or null for no positions; writes x (batch, seq, hidden).
  virtual absl::Status Forward(const OpContext& context, const int32_t* tokens, const void* wte, const void* wpe,
                               void* x) const = 0;
  // dx (batch, seq, hidden); adds to dwte and dwpe (null where Forward got none), each row's contributions in the
  // order of (b, t).
  virtual absl::Status Backward(const OpContext& context, const int32_t* tokens, const void* dx, float* dwte,
                                float* dwpe) const = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_EMBEDDING_H_
