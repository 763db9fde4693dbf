// Tensor cores by PTX's own words: products of a warp (mma.sync), its loads from shared memory (ldmatrix) and copies
// into it that nobody waits for at once (cp.async). sm_80 and later.
//
// mma.m16n8k16: C (16, 8) += A (16, 16) B (16, 8), bf16 in, fp32 out, by all lanes of a warp together. What a lane
// holds (PTX ISA, "Matrix Fragments for mma.m16n8k16"; the same element for element as CuTe's traits for
// SM80_16x8x16_F32BF16BF16F32_TN, and the loads as SM75_U32x4_LDSM_N and SM75_U16x8_LDSM_T), with g = lane / 4 and
// t = 2 (lane % 4):
//
//   A   r[0] (g, t), (g, t+1)    r[1] (g+8, t), ..    r[2] (g, t+8), ..    r[3] (g+8, t+8), ..    the first one low
//   B   r[0] (t, g), (t+1, g)    r[1] (t+8, g), (t+9, g)
//   C   v[0] (g, t)  v[1] (g, t+1)  v[2] (g+8, t)  v[3] (g+8, t+1)
//
// So two C tiles side by side, rounded, are an A: a product's result goes into the next product without leaving the
// registers. The emulator (worker/cuda/testing/emulator/emulated_mma.h) has the same functions by these layouts.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_MMA_CUH_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_MMA_CUH_

#include "worker/ops/cuda/kernels/common.cuh"

namespace penstock::cuda {

inline constexpr int kMmaRows = 16;    // of A and C
inline constexpr int kMmaColumns = 8;  // of B and C
inline constexpr int kMmaDepth = 16;   // columns of A, rows of B

struct FragmentA {
  unsigned r[4];
};
struct FragmentB {
  unsigned r[2];
};
struct Accumulator {
  float v[4];
};

}  // namespace penstock::cuda

#if defined(PENSTOCK_CUDA_EMULATED)
#include <emulated_mma.h>
#else
namespace penstock::cuda {

__device__ __forceinline__ void Mma(Accumulator& c, const FragmentA& a, const FragmentB& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
}

// Four matrices of 8 by 8 from shared memory: lane i names row i % 8 of matrix i / 8 (16 bytes, aligned). r[k] has
// (g, t) and (g, t+1) of matrix k, or with kTransposed (t, g) and (t+1, g).
template <bool kTransposed>
__device__ __forceinline__ void LoadMatrices(unsigned (&r)[4], const Bf16* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
}

// 16 aligned bytes to shared memory: there when a later WaitForCopies returns, for this thread.
__device__ __forceinline__ void CopyAsync16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(__cvta_generic_to_global(from))
               : "memory");
}
// The same, or as many zeros.
__device__ __forceinline__ void CopyAsync16(void* to, const void* from, bool valid) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
      "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
      : "memory");
}
__device__ __forceinline__ void CopyAsync4(void* to, const void* from, bool valid) {
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
      "l"(__cvta_generic_to_global(from)), "r"(valid ? 4 : 0)
      : "memory");
}
// Closes the group of this thread's copies so far.
__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all of this thread's groups but the latest kPending are there.
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace penstock::cuda
#endif

namespace penstock::cuda {

// The next three read 16 by 16 values of a matrix in shared memory (rows `pitch` apart, 16-byte aligned) that begins at
// `at`. A pitch of an odd number of 16 bytes keeps a load's eight rows in different banks.

// A = the matrix.
__device__ __forceinline__ FragmentA LoadA(const Bf16* at, int pitch) {
  const int lane = threadIdx.x % kWarpThreads;
  FragmentA a;
  LoadMatrices<false>(a.r, at + lane % 16 * pitch + lane / 16 * 8);
  return a;
}

// B = two neighbours: columns 0 to 7 and 8 to 15 of the matrix's transpose. (The matrix has B's columns as rows.)
__device__ __forceinline__ void LoadTransposedB(const Bf16* at, int pitch, FragmentB (&b)[2]) {
  const int lane = threadIdx.x % kWarpThreads;
  unsigned r[4];
  LoadMatrices<false>(r, at + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8);
  b[0] = {{r[0], r[1]}};
  b[1] = {{r[2], r[3]}};
}

// B = two neighbours: columns 0 to 7 and 8 to 15 of the matrix.
__device__ __forceinline__ void LoadB(const Bf16* at, int pitch, FragmentB (&b)[2]) {
  const int lane = threadIdx.x % kWarpThreads;
  unsigned r[4];
  LoadMatrices<true>(r, at + lane % 16 * pitch + lane / 16 * 8);
  b[0] = {{r[0], r[1]}};
  b[1] = {{r[2], r[3]}};
}

// A = two C tiles side by side, rounded.
__device__ __forceinline__ FragmentA RoundToA(const Accumulator& left, const Accumulator& right) {
  return {{RoundPair(left.v[0], left.v[1]), RoundPair(left.v[2], left.v[3]), RoundPair(right.v[0], right.v[1]),
           RoundPair(right.v[2], right.v[3])}};
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_MMA_CUH_
