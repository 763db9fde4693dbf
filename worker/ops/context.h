// What every operation gets with each call: where it may scribble, and in which order it runs.
//
// An operation is created once for its shapes, before the first step (that is when oneDNN primitives are built or
// cuBLASLt algorithms chosen), tells how much workspace it needs, and then runs any number of times without
// allocating. All tensor pointers are memory of the backend's device, row-major and packed. `void` ones are of the
// operation's type (`type` in its shape: weights, activations and their gradients), `float` ones fp32 in any case
// (parameters' gradients and statistics, which are sums). bf16 is rounded to nearest even; sums and the inside of an
// operation are fp32. Outputs don't overlap inputs unless a function says that they may.
#ifndef PENSTOCK_WORKER_OPS_CONTEXT_H_
#define PENSTOCK_WORKER_OPS_CONTEXT_H_

#include <cstddef>
#include <cstdint>

namespace penstock {

struct OpContext {
  // Device memory, 64-byte aligned, of at least the operation's workspace_bytes(). Calls that may run at the same time
  // need workspaces of their own.
  std::byte* workspace = nullptr;
  int64_t workspace_bytes = 0;
  // The device stream that orders the calls (a cudaStream_t). The CPU runs each call to its end and ignores it.
  void* stream = nullptr;
};

// Base of every operation. Thread-safety: const after creation; concurrent calls are safe with distinct workspaces.
class Operation {
 public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() = default;

  // The most that any call of this operation needs.
  virtual int64_t workspace_bytes() const { return 0; }
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CONTEXT_H_
