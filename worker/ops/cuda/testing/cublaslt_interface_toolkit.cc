#define PENSTOCK_INTERFACE ToolkitInterface
#include "worker/ops/cuda/testing/cublaslt_interface.inc"  // IWYU pragma: export
