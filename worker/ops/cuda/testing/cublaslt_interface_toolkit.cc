#define PENSTOCK_INTERFACE ToolkitInterface
#define PENSTOCK_ANSWERS ToolkitAnswers
#include "worker/ops/cuda/testing/cublaslt_interface.inc"
