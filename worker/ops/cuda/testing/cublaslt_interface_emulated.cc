#define PENSTOCK_INTERFACE EmulatedInterface
#include "worker/ops/cuda/testing/cublaslt_interface.inc"  // IWYU pragma: export
