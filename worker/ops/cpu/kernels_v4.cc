// The kernels for AVX-512. Called only where the processor has it.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "worker/ops/cpu/kernels.h"

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define PENSTOCK_ISA v4
#define PENSTOCK_AVX512
#include "worker/ops/cpu/kernels.inc"
#pragma GCC pop_options
