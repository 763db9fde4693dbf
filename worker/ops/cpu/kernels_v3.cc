// The kernels for AVX2, which every machine has.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "worker/ops/cpu/kernels.h"

#define PENSTOCK_ISA v3
#include "worker/ops/cpu/kernels.inc"
