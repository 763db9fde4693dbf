// A cuBLASLt for the emulator, written from the library's documentation and not from what our code asks of it: what the
// documentation demands is refused with the error that it names. Products go into the stream.
//
// Where the documentation leaves open what there is, it has little: no algorithm for GELU whose matrices aren't at
// multiples of 16 bytes, and none that takes less than what the heuristic was told of addresses and leading dimensions.
// An algorithm is good for the layouts and the epilogue that it was asked for. Where k is shared out it drops the terms
// behind the last whole tile, as real versions do.
//
// Thread-safe, as the library: a handle and what isn't being changed may be used by several threads.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_CUBLASLT_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_CUBLASLT_H_

#include <cstdint>

namespace penstock::cuda::emulator {

// While one lives, the heuristic has nothing for matrices whose addresses or leading dimensions aren't multiples of
// `bytes`: for tests of what is done instead. One at a time.
class ScopedProductAlignment {
 public:
  explicit ScopedProductAlignment(uint32_t bytes);
  ~ScopedProductAlignment();
  ScopedProductAlignment(const ScopedProductAlignment&) = delete;
  ScopedProductAlignment& operator=(const ScopedProductAlignment&) = delete;
};

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_CUBLASLT_H_
