#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "worker/cuda/testing/emulated_library.h"
#include "worker/ops/cuda/testing/cublaslt/emulated_cublaslt_problem.h"
#include "worker/ops/cuda/testing/cublaslt/emulated_product.h"
#include "worker/cuda/testing/emulator/memory.h"
#include "worker/cuda/testing/emulator/streams.h"

// "Tied to the current CUDA device": the one at its creation.
struct cublasLtContext {
  uint64_t magic;
  int device;
};

namespace penstock::cuda::emulator {
namespace {

// The library's structures are opaque words, which ours live in.
template <typename T, typename Opaque>
T Read(const Opaque* opaque) {
  static_assert(sizeof(T) <= sizeof(Opaque) && std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(static_cast<void*>(&value), opaque, sizeof(T));
  return value;
}
template <typename T, typename Opaque>
void Write(Opaque* opaque, const T& value) {
  static_assert(sizeof(T) <= sizeof(Opaque) && std::is_trivially_copyable_v<T>);
  std::memset(opaque, 0, sizeof(Opaque));
  std::memcpy(opaque, &value, sizeof(T));
}
template <typename Opaque>
bool Valid(const Opaque* opaque) {
  return opaque != nullptr && opaque->data[0] == kMagic;
}

// Creates and destroys what Opaque points to.
template <typename T, typename Opaque>
cublasStatus_t Make(Opaque** opaque, const T& value) {
  if (opaque == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *opaque = new Opaque;
  Write(*opaque, value);
  return CUBLAS_STATUS_SUCCESS;
}
template <typename Opaque>
cublasStatus_t Unmake(Opaque* opaque) {
  if (opaque == nullptr) return CUBLAS_STATUS_SUCCESS;
  opaque->data[0] = 0;
  delete opaque;
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t Assign(T* to, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

bool Overlap(const void* a, uint64_t a_bytes, const void* b, uint64_t b_bytes) {
  const auto first = reinterpret_cast<uintptr_t>(a);
  const auto second = reinterpret_cast<uintptr_t>(b);
  return first < second + b_bytes && second < first + a_bytes;
}
uint64_t Span(const Matrix& matrix) {
  return ((matrix.columns - 1) * static_cast<uint64_t>(matrix.ld) + matrix.rows) *
         static_cast<uint64_t>(BytesOf(matrix.type));
}

// Whether what a product writes is also something else that it touches, but for C in D's place, or whether anything
// isn't the device's.
bool Clashes(const Product& product, const Algorithm& algorithm, int device) {
  struct Region {
    const void* data;
    uint64_t bytes;
  };
  const uint64_t element = static_cast<uint64_t>(BytesOf(product.d.type));
  const Region d = {product.d_data, Span(product.d)};
  const Region aux = {product.aux, Span({product.d.type, product.m, product.n, product.aux_ld})};
  const Region workspace = {product.workspace, algorithm.workspace_bytes};
  const bool reads_aux = product.epilogue == CUBLASLT_EPILOGUE_DGELU;
  std::vector<Region> written = {d};
  std::vector<Region> read = {{product.a_data, Span(product.a)}, {product.b_data, Span(product.b)}};
  if (product.bias != nullptr) read.push_back({product.bias, product.m * element});
  if (product.beta != 0 && product.c_data != product.d_data) read.push_back({product.c_data, Span(product.c)});
  if (product.aux != nullptr) (reads_aux ? read : written).push_back(aux);
  if (workspace.bytes > 0) written.push_back(workspace);
  const auto mine = [&](const Region& region) {
    return DeviceOf(region.data) == device && IsAllocated(region.data, region.bytes);
  };
  for (size_t i = 0; i < written.size(); ++i) {
    const auto overlaps = [&](const Region& other) {
      return Overlap(written[i].data, written[i].bytes, other.data, other.bytes);
    };
    if (!mine(written[i]) || std::ranges::any_of(read, overlaps) ||
        std::any_of(written.begin() + static_cast<ptrdiff_t>(i) + 1, written.end(), overlaps)) {
      return true;
    }
  }
  return !std::ranges::all_of(read, mine);
}

const EmulatedLibrary library("libcublasLt.so.",
                              {{"cublasLtCreate", Address(&cublasLtCreate)},
                               {"cublasLtDestroy", Address(&cublasLtDestroy)},
                               {"cublasLtGetStatusString", Address(&cublasLtGetStatusString)},
                               {"cublasLtMatmul", Address(&cublasLtMatmul)},
                               {"cublasLtMatmulAlgoGetHeuristic", Address(&cublasLtMatmulAlgoGetHeuristic)},
                               {"cublasLtMatmulDescCreate", Address(&cublasLtMatmulDescCreate)},
                               {"cublasLtMatmulDescDestroy", Address(&cublasLtMatmulDescDestroy)},
                               {"cublasLtMatmulDescSetAttribute", Address(&cublasLtMatmulDescSetAttribute)},
                               {"cublasLtMatrixLayoutCreate", Address(&cublasLtMatrixLayoutCreate)},
                               {"cublasLtMatrixLayoutDestroy", Address(&cublasLtMatrixLayoutDestroy)},
                               {"cublasLtMatmulPreferenceCreate", Address(&cublasLtMatmulPreferenceCreate)},
                               {"cublasLtMatmulPreferenceDestroy", Address(&cublasLtMatmulPreferenceDestroy)},
                               {"cublasLtMatmulPreferenceSetAttribute",
                                Address(&cublasLtMatmulPreferenceSetAttribute)}});

}  // namespace

}  // namespace penstock::cuda::emulator

using namespace penstock::cuda::emulator;  // NOLINT: the library's functions are outside of all namespaces

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = new cublasLtContext{kMagic, CurrentDevice()};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  if (handle == nullptr || handle->magic != kMagic) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->magic = 0;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the requested functionality is not supported";
    default:
      return "an error";
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  Description made;
  made.compute = compute;
  made.scale = scale;
  return Make(description, made);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) { return Unmake(description); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  if (!Valid(description)) return CUBLAS_STATUS_INVALID_VALUE;
  auto changed = Read<Description>(description);
  const cublasStatus_t status = [&] {
    switch (attribute) {
      case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return Assign(&changed.compute, value, bytes);
      case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return Assign(&changed.scale, value, bytes);
      case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return Assign(&changed.pointer_mode, value, bytes);
      case CUBLASLT_MATMUL_DESC_TRANSA:
        return Assign(&changed.op_a, value, bytes);
      case CUBLASLT_MATMUL_DESC_TRANSB:
        return Assign(&changed.op_b, value, bytes);
      case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return Assign(&changed.epilogue, value, bytes);
      case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return Assign(&changed.bias, value, bytes);
      case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return Assign(&changed.aux, value, bytes);
      case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return Assign(&changed.aux_ld, value, bytes);
      case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
        return Assign(&changed.aux_type, value, bytes);
      case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return Assign(&changed.bias_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
  }();
  Write(description, changed);
  return status;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  Layout made;
  made.matrix = {type, rows, columns, ld};
  return Make(layout, made);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return Unmake(layout); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return Make(preference, Preference());
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return Unmake(preference); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  if (!Valid(preference)) return CUBLAS_STATUS_INVALID_VALUE;
  auto changed = Read<Preference>(preference);
  const cublasStatus_t status = [&] {
    switch (attribute) {
      case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
        return Assign(&changed.search, value, bytes);
      case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return Assign(&changed.workspace_bytes, value, bytes);
      case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return Assign(&changed.reductions, value, bytes);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return Assign(&changed.alignments[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
  }();
  Write(preference, changed);
  return status;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  if (handle == nullptr || handle->magic != kMagic) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested <= 0 || results == nullptr || returned == nullptr || !Valid(description) || !Valid(a) || !Valid(b) ||
      !Valid(c) || !Valid(d) || !Valid(preference)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *returned = 0;
  const Problem problem = {Read<Description>(description), Read<Layout>(a).matrix, Read<Layout>(b).matrix,
                           Read<Layout>(c).matrix, Read<Layout>(d).matrix};
  Algorithm algorithm;
  const cublasStatus_t status = Choose(problem, Read<Preference>(preference), &algorithm);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  results[0] = {};
  Write(&results[0].algo, algorithm);
  results[0].workspaceSize = algorithm.workspace_bytes;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  if (handle == nullptr || handle->magic != kMagic) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!Valid(description) || !Valid(a_layout) || !Valid(b_layout) || !Valid(c_layout) || !Valid(d_layout) ||
      alpha == nullptr || beta == nullptr || a == nullptr || b == nullptr || d == nullptr) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Problem problem = {Read<Description>(description), Read<Layout>(a_layout).matrix, Read<Layout>(b_layout).matrix,
                           Read<Layout>(c_layout).matrix, Read<Layout>(d_layout).matrix};
  const float scale = *static_cast<const float*>(alpha);
  const float add = *static_cast<const float*>(beta);
  if ((add != 0 && c == nullptr) || (c == d && problem.c != problem.d)) return CUBLAS_STATUS_INVALID_VALUE;
  Algorithm chosen;
  if (algorithm != nullptr) {
    chosen = Read<Algorithm>(algorithm);
  } else {
    Preference preference;
    preference.workspace_bytes = workspace_bytes;
    if (const auto status = Choose(problem, preference, &chosen); status != CUBLAS_STATUS_SUCCESS) return status;
  }
  if (!Conforms(problem) || chosen.magic != kMagic || chosen.problem != Digest(problem) ||
      workspace_bytes < chosen.workspace_bytes || reinterpret_cast<uintptr_t>(workspace) % kWorkspaceAlignment != 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (const auto status = CheckArithmetic(problem); status != CUBLAS_STATUS_SUCCESS) return status;
  const uint64_t addresses[4] = {reinterpret_cast<uintptr_t>(a), reinterpret_cast<uintptr_t>(b),
                                 reinterpret_cast<uintptr_t>(c), reinterpret_cast<uintptr_t>(d)};
  if (!Enough(AlignmentsOf(problem, addresses), chosen.alignments, problem.description)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool has_aux = HasAux(problem.description);
  const Product product = {.m = problem.m(),
                           .n = problem.n(),
                           .k = problem.k(),
                           .transpose_a = problem.description.op_a != CUBLAS_OP_N,
                           .transpose_b = problem.description.op_b != CUBLAS_OP_N,
                           .alpha = scale,
                           .beta = add,
                           .a = problem.a,
                           .b = problem.b,
                           .c = problem.c,
                           .d = problem.d,
                           .a_data = a,
                           .b_data = b,
                           .c_data = c,
                           .d_data = d,
                           .epilogue = static_cast<cublasLtEpilogue_t>(problem.description.epilogue),
                           .bias = HasBias(problem.description) ? problem.description.bias : nullptr,
                           .aux = has_aux ? problem.description.aux : nullptr,
                           .aux_ld = problem.description.aux_ld,
                           .splits = chosen.splits,
                           .workspace = static_cast<float*>(workspace)};
  if (DeviceOfStream(stream) != handle->device || Clashes(product, chosen, handle->device)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return Enqueue(stream, Touches::kNothing, [product] { RunProduct(product); }) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}
