// Embedding on the CPU. The backward pass cuts columns over threads and walks the tokens in order, so a token that
// occurs often has its contributions added in one order, whatever the threads.
#ifndef PENSTOCK_WORKER_OPS_CPU_EMBEDDING_H_
#define PENSTOCK_WORKER_OPS_CPU_EMBEDDING_H_

#include <memory>

#include "worker/ops/embedding.h"

namespace penstock::cpu {

std::unique_ptr<Embedding> CreateEmbedding(const EmbeddingShape& shape, int threads);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_EMBEDDING_H_
