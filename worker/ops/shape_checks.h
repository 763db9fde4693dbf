// Checks that every backend makes before it creates an operation.
#ifndef PENSTOCK_WORKER_OPS_SHAPE_CHECKS_H_
#define PENSTOCK_WORKER_OPS_SHAPE_CHECKS_H_

#include <cstdint>
#include <initializer_list>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/ops/attention.h"
#include "worker/ops/dropout.h"
#include "worker/ops/embedding.h"
#include "worker/ops/layer_norm.h"
#include "worker/ops/linear.h"
#include "worker/ops/linear_cross_entropy.h"

namespace penstock {

struct Dimension {
  const char* name;
  int64_t value;
};

// INVALID_ARGUMENT "linear: in is 0; it must be positive".
inline absl::Status CheckPositive(const char* operation, std::initializer_list<Dimension> dimensions) {
  for (const Dimension& dimension : dimensions) {
    if (dimension.value <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(operation, ": ", dimension.name, " is ", dimension.value, "; it must be positive"));
    }
  }
  return absl::OkStatus();
}

// Of the shapes whose sizes must all be positive.
inline absl::Status CheckShape(const LinearShape& shape) {
  return CheckPositive("linear", {{"rows", shape.rows}, {"in", shape.in}, {"out", shape.out}});
}
inline absl::Status CheckShape(const LayerNormShape& shape) {
  return CheckPositive("layer norm", {{"rows", shape.rows}, {"width", shape.width}});
}
inline absl::Status CheckShape(const AttentionShape& shape) {
  return CheckPositive(
      "attention",
      {{"batch", shape.batch}, {"seq_length", shape.seq_length}, {"heads", shape.heads}, {"head_dim", shape.head_dim}});
}
inline absl::Status CheckShape(const DropoutShape& shape) {
  return CheckPositive("dropout", {{"samples", shape.samples}, {"elements", shape.elements}});
}
inline absl::Status CheckShape(const EmbeddingShape& shape) {
  return CheckPositive("embedding", {{"batch", shape.batch},
                                     {"seq_length", shape.seq_length},
                                     {"vocab_size", shape.vocab_size},
                                     {"hidden", shape.hidden}});
}
inline absl::Status CheckShape(const LinearCrossEntropyShape& shape) {
  return CheckPositive("output head", {{"rows", shape.rows},
                                       {"in", shape.in},
                                       {"vocab_size", shape.vocab_size},
                                       {"columns", shape.columns()},
                                       {"ranks", shape.ranks}});
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_SHAPE_CHECKS_H_
