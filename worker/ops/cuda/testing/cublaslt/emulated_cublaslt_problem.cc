#include "worker/ops/cuda/testing/cublaslt/emulated_cublaslt_problem.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "worker/ops/cuda/testing/cublaslt/emulated_cublaslt.h"

namespace penstock::cuda::emulator {
namespace {

// The widest load or store.
constexpr uint64_t kWidest = 16;
constexpr int64_t kAuxLdUnit = 8;

std::atomic<uint64_t> required_alignment = 1;

// The widest access that an address, or all columns of a matrix at one, allow.
uint8_t Width(uint64_t address, int64_t ld_bytes = 0) {
  const uint64_t both = address | static_cast<uint64_t>(ld_bytes) | kWidest;
  return static_cast<uint8_t>(both & ~(both - 1));
}

// With many terms and few sums, k is shared out.
uint64_t SplitsFor(const Problem& problem, const Preference& preference) {
  if ((preference.reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) == 0) return 1;
  constexpr uint64_t kSplits = 3;
  const bool worth = problem.k() >= 64 && problem.k() >= 2 * std::max(problem.m(), problem.n());
  return worth && kSplits * problem.m() * problem.n() * sizeof(float) <= preference.workspace_bytes ? kSplits : 1;
}

}  // namespace

ScopedProductAlignment::ScopedProductAlignment(uint32_t bytes) { required_alignment = bytes; }
ScopedProductAlignment::~ScopedProductAlignment() { required_alignment = 1; }

bool Conforms(const Problem& problem) {
  const auto operation = [](int32_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; };
  if (!operation(problem.description.op_a) || !operation(problem.description.op_b)) return false;
  const bool a_as_is = problem.description.op_a == CUBLAS_OP_N;
  const bool b_as_is = problem.description.op_b == CUBLAS_OP_N;
  for (const Matrix* matrix : {&problem.a, &problem.b, &problem.c, &problem.d}) {
    if (matrix->rows == 0 || matrix->columns == 0 || matrix->ld < 0) return false;
    if (static_cast<uint64_t>(matrix->ld) < matrix->rows) return false;
    // "Usually only values that can be expressed as int32_t are supported."
    if (matrix->rows >> 31 != 0 || matrix->columns >> 31 != 0) return false;
  }
  return (a_as_is ? problem.a.rows : problem.a.columns) == problem.m() &&
         (b_as_is ? problem.b.columns : problem.b.rows) == problem.n() &&
         (b_as_is ? problem.b.rows : problem.b.columns) == problem.k() && problem.c.rows == problem.m() &&
         problem.c.columns == problem.n() && problem.c.type == problem.d.type;
}

cublasStatus_t CheckArithmetic(const Problem& problem) {
  const Description& description = problem.description;
  if (description.compute != CUBLAS_COMPUTE_32F || description.scale != CUDA_R_32F || description.pointer_mode != 0) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool bf16 = problem.a.type == CUDA_R_16BF && problem.b.type == CUDA_R_16BF;
  const bool fp32 = problem.a.type == CUDA_R_32F && problem.b.type == CUDA_R_32F && problem.d.type == CUDA_R_32F;
  if (!bf16 && !fp32) return CUBLAS_STATUS_NOT_SUPPORTED;
  switch (description.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
      break;
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const auto other = [&](int32_t type) { return type != -1 && type != static_cast<int32_t>(problem.d.type); };
  if (HasBias(description) && description.bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (HasBias(description) && other(description.bias_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!HasAux(description)) return CUBLAS_STATUS_SUCCESS;
  if (description.aux == nullptr || description.aux_ld % kAuxLdUnit != 0 ||
      description.aux_ld < static_cast<int64_t>(problem.m())) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return other(description.aux_type) ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

uint64_t Digest(const Problem& problem) {
  uint64_t digest = kMagic;
  const auto add = [&](uint64_t value) { digest = std::rotl(digest ^ value, 23) * 0x9e37'79b9'7f4a'7c15ull; };
  for (const Matrix* matrix : {&problem.a, &problem.b, &problem.c, &problem.d}) {
    add(static_cast<uint64_t>(matrix->type));
    add(matrix->rows);
    add(matrix->columns);
    add(static_cast<uint64_t>(matrix->ld));
  }
  add(static_cast<uint64_t>(problem.description.op_a));
  add(static_cast<uint64_t>(problem.description.op_b));
  add(problem.description.epilogue);
  add(HasAux(problem.description) ? static_cast<uint64_t>(problem.description.aux_ld) : 0);
  return digest;
}

Alignments AlignmentsOf(const Problem& problem, const uint64_t (&addresses)[4]) {
  const auto of = [](uint64_t address, const Matrix& matrix) {
    return Width(address, matrix.ld * BytesOf(matrix.type));
  };
  const Description& description = problem.description;
  return {of(addresses[0], problem.a),
          of(addresses[1], problem.b),
          of(addresses[2], problem.c),
          of(addresses[3], problem.d),
          Width(reinterpret_cast<uintptr_t>(description.bias)),
          Width(reinterpret_cast<uintptr_t>(description.aux), description.aux_ld * BytesOf(problem.d.type))};
}

bool Enough(const Alignments& has, const Alignments& needs, const Description& description) {
  return has.a >= needs.a && has.b >= needs.b && has.c >= needs.c && has.d >= needs.d &&
         (!HasBias(description) || has.bias >= needs.bias) && (!HasAux(description) || has.aux >= needs.aux);
}

cublasStatus_t Choose(const Problem& problem, const Preference& preference, Algorithm* algorithm) {
  if (!Conforms(problem)) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = CheckArithmetic(problem); status != CUBLAS_STATUS_SUCCESS) return status;
  const uint64_t promised[4] = {preference.alignments[0], preference.alignments[1], preference.alignments[2],
                                preference.alignments[3]};
  const Alignments alignments = AlignmentsOf(problem, promised);
  const auto at_least = [&](uint64_t bytes) {
    const auto width = static_cast<uint8_t>(bytes);
    return Enough(alignments, {width, width, width, width, width, width}, problem.description);
  };
  const Alignments elements = {
      static_cast<uint8_t>(BytesOf(problem.a.type)), static_cast<uint8_t>(BytesOf(problem.b.type)),
      static_cast<uint8_t>(BytesOf(problem.c.type)), static_cast<uint8_t>(BytesOf(problem.d.type)),
      static_cast<uint8_t>(BytesOf(problem.d.type)), static_cast<uint8_t>(BytesOf(problem.d.type))};
  if (!Enough(alignments, elements, problem.description) || !at_least(required_alignment) ||
      (HasAux(problem.description) && !at_least(kWidest))) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const uint64_t splits = SplitsFor(problem, preference);
  *algorithm = {.magic = kMagic,
                .problem = Digest(problem),
                .workspace_bytes = splits == 1 ? 0 : splits * problem.m() * problem.n() * sizeof(float),
                .splits = splits,
                .alignments = alignments};
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace penstock::cuda::emulator
