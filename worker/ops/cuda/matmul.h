// A matrix product as cuBLASLt has it: column-major, D (m, n) = op(A) op(B) + bias. The seam between the operations and
// the library, so that what the operations ask for can be tested without it. Private to ops/cuda and its tests.
#ifndef PENSTOCK_WORKER_OPS_CUDA_MATMUL_H_
#define PENSTOCK_WORKER_OPS_CUDA_MATMUL_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/data_type.h"
#include "worker/ops/context.h"

namespace penstock::cuda {

// What becomes of the product, of which `aux` has the layout and the type.
enum class Epilogue {
  kNone,
  // aux = D as it would have been, D = gelu(aux), of GELU's tanh form.
  kGelu,
  // D = D as it would have been times gelu'(aux).
  kGeluGradient,
};

// What all addresses are multiples of where there is an epilogue, and what makes a product fast where there is none.
inline constexpr int64_t kMatmulAlignment = 16;

struct MatmulSpec {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  // A is (m, k), or (k, m) where it is transposed; B is (k, n) or (n, k). Columns lie `ld` elements apart.
  bool transpose_a = false;
  bool transpose_b = false;
  int64_t lda = 0;
  int64_t ldb = 0;
  int64_t ldd = 0;
  DataType input = DataType::kFloat32;   // of A and B
  DataType output = DataType::kFloat32;  // of D and the bias
  // A bias (m), added to every column.
  bool has_bias = false;
  Epilogue epilogue = Epilogue::kNone;
};

// Thread-safety: const after creation.
class Matmul {
 public:
  virtual ~Matmul() = default;
  virtual int64_t workspace_bytes() const = 0;
  // `addend`: what is added, with D's layout and type and mostly D itself, or null; null with an epilogue. `aux`: the
  // epilogue's; with one all addresses are multiples of kMatmulAlignment. Sums are fp32; the same call gives the same
  // bits.
  virtual absl::Status Run(const OpContext& context, const void* a, const void* b, const void* bias, const void* addend,
                           void* d, void* aux = nullptr) const = 0;
};

// Thread-safe; outlives what it makes.
class MatmulFactory {
 public:
  virtual ~MatmulFactory() = default;
  // UNIMPLEMENTED for an epilogue that the library hasn't got for these sizes and types; without one there is always a
  // way.
  virtual absl::StatusOr<std::unique_ptr<Matmul>> Create(const MatmulSpec& spec) = 0;
};

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_MATMUL_H_
