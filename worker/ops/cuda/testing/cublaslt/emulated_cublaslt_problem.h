// The emulated cuBLASLt's judgement: what a product is, what the documentation demands of it, and which algorithm there
// is for it.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_CUBLASLT_PROBLEM_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_CUBLASLT_PROBLEM_H_

#include <cublasLt.h>

#include <cstdint>

#include "worker/ops/cuda/testing/cublaslt/emulated_product.h"

namespace penstock::cuda::emulator {

constexpr uint64_t kMagic = 0x7065'6e73'746f'636bull;
constexpr uintptr_t kWorkspaceAlignment = 256;

// What the opaque structures hold, with their defaults.
struct Description {
  uint64_t magic = kMagic;
  int32_t compute = 0;
  int32_t scale = 0;
  int32_t pointer_mode = 0;
  int32_t op_a = CUBLAS_OP_N;
  int32_t op_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  void* aux = nullptr;
  int64_t aux_ld = 0;
  int32_t aux_type = -1;
  int32_t bias_type = -1;
};

struct Layout {
  uint64_t magic = kMagic;
  Matrix matrix = {};
};

struct Preference {
  uint64_t magic = kMagic;
  uint64_t workspace_bytes = 0;
  uint32_t search = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignments[4] = {256, 256, 256, 256};  // A, B, C, D
};

// Of everything that a product reads or writes, what its address is a multiple of.
struct Alignments {
  uint8_t a, b, c, d, bias, aux;
};

// What an algorithm was asked for, as far as eight words can tell.
struct Algorithm {
  uint64_t magic = 0;
  uint64_t problem = 0;  // a digest of layouts, operations and epilogue
  uint64_t workspace_bytes = 0;
  uint64_t splits = 1;
  Alignments alignments = {};
};

inline bool HasBias(const Description& description) { return (description.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0; }
inline bool HasAux(const Description& description) { return (description.epilogue & 128) != 0; }

struct Problem {
  Description description;
  Matrix a, b, c, d;
  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.columns; }
  uint64_t k() const { return description.op_a == CUBLAS_OP_N ? a.columns : a.rows; }
};

// Whether layouts are a product at all, whatever the arithmetic.
bool Conforms(const Problem& problem);

// The documentation's table of types, and the epilogues' own demands.
cublasStatus_t CheckArithmetic(const Problem& problem);

// Of layouts, operations and epilogue.
uint64_t Digest(const Problem& problem);

// What A, B, C and D at these addresses, the bias and the epilogue's matrix allow; at most 16.
Alignments AlignmentsOf(const Problem& problem, const uint64_t (&addresses)[4]);
bool Enough(const Alignments& has, const Alignments& needs, const Description& description);

// Sets *algorithm to the only one.
cublasStatus_t Choose(const Problem& problem, const Preference& preference, Algorithm* algorithm);

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_CUBLASLT_PROBLEM_H_
