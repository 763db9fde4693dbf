#define PENSTOCK_INTERFACE EmulatedInterface
#define PENSTOCK_ANSWERS EmulatedAnswers
#include "worker/ops/cuda/testing/cublaslt_interface.inc"
