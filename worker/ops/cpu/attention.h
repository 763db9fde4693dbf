// Causal attention on the CPU: a (sample, head) belongs to one thread, which works through it in blocks of query rows
// against the keys that those rows may see. Bits don't depend on the threads.
#ifndef PENSTOCK_WORKER_OPS_CPU_ATTENTION_H_
#define PENSTOCK_WORKER_OPS_CPU_ATTENTION_H_

#include <memory>

#include "worker/ops/attention.h"

namespace penstock::cpu {

std::unique_ptr<CausalAttention> CreateCausalAttention(const AttentionShape& shape, int threads);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_ATTENTION_H_
