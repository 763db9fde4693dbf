// Every operation once more, in plain loops of double: what the devices' versions are checked against. Tests only.
//
// Written for reading, from the formulas, and sharing nothing with the code under test. Shapes are those of the
// interfaces in worker/ops; gradients are returned, not added. Each backward function is itself checked against finite
// differences of its forward function (the operations' tests).
#ifndef PENSTOCK_WORKER_OPS_REFERENCE_OPERATIONS_H_
#define PENSTOCK_WORKER_OPS_REFERENCE_OPERATIONS_H_

#include <cstdint>
#include <vector>

#include "worker/ops/attention.h"
#include "worker/ops/loss.h"
#include "worker/ops/embedding.h"
#include "worker/ops/layer_norm.h"
#include "worker/ops/linear.h"

namespace penstock::reference {

using Values = std::vector<double>;
using Tokens = std::vector<int32_t>;

// bias is empty without one.
Values LinearForward(const LinearShape& shape, const Values& x, const Values& weight, const Values& bias);
struct LinearGradients {
  Values x;
  Values weight;
  Values bias;
};
LinearGradients LinearBackward(const LinearShape& shape, const Values& x, const Values& weight, const Values& dy);

Values LayerNormForward(const LayerNormShape& shape, const Values& x, const Values& gamma, const Values& beta);
struct LayerNormGradients {
  Values x;
  Values gamma;
  Values beta;
};
LayerNormGradients LayerNormBackward(const LayerNormShape& shape, const Values& x, const Values& gamma,
                                     const Values& dy);

// Not causal: every position sees all of them.
Values AttentionForward(const AttentionShape& shape, const Values& qkv, bool causal = true);
Values AttentionBackward(const AttentionShape& shape, const Values& qkv, const Values& dout, bool causal = true);

Values GeluForward(const Values& x);
Values GeluBackward(const Values& x, const Values& dy);

Values Add(const Values& a, const Values& b);

Values EmbeddingForward(const EmbeddingShape& shape, const Tokens& tokens, const Values& wte, const Values& wpe);
struct EmbeddingGradients {
  Values wte;
  Values wpe;
};
EmbeddingGradients EmbeddingBackward(const EmbeddingShape& shape, const Tokens& tokens, const Values& dx);

struct CrossEntropyShape {
  int64_t rows = 0;
  int64_t vocab_size = 0;
};
double CrossEntropyForward(const CrossEntropyShape& shape, const Values& logits, const Tokens& targets);
Values CrossEntropyBackward(const CrossEntropyShape& shape, const Values& logits, const Tokens& targets);

}  // namespace penstock::reference

#endif  // PENSTOCK_WORKER_OPS_REFERENCE_OPERATIONS_H_
