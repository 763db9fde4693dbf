// Which vector instructions a kernel may use. Our binaries start on any x86-64-v3 (AVX2, FMA); kernels that gain by it
// have a second version for x86-64-v4 (AVX-512), which gives the same bits.
#ifndef PENSTOCK_CORE_BASE_VECTOR_ISA_H_
#define PENSTOCK_CORE_BASE_VECTOR_ISA_H_

namespace penstock {

enum class VectorIsa { kV3, kV4 };

// The widest one that this processor has. Kernels take it as a default argument, so that a test can ask for another.
inline VectorIsa BestVectorIsa() {
  // What makes x86-64-v4, one by one: not every compiler knows the level's name here.
  static const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                         __builtin_cpu_supports("avx512vl");
  return v4 ? VectorIsa::kV4 : VectorIsa::kV3;
}

}  // namespace penstock

#endif  // PENSTOCK_CORE_BASE_VECTOR_ISA_H_
