#include "worker/ops/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/plan/memory_class.h"
#include "worker/cuda/device.h"
#include "worker/cuda/dynamic_library.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/kernels/plain_product.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

// The library's part of a product's workspace, once that is aligned as the library wants it.
constexpr uintptr_t kWorkspaceAlignment = kGpuProductAlignment;
constexpr int64_t kWorkspaceBytes = kGpuProductBytes - kGpuProductAlignment;

// Elements of which the leading dimension of an epilogue's second matrix is a multiple.
constexpr int64_t kAuxiliaryUnit = 8;

// Terms of a tile of the library's at most. On H100 and Blackwell versions 12.8 to 13.1 drop those behind the last
// whole tile where they share k out, so k is shared out only where there are none.
constexpr int64_t kTileTerms = 128;

// Whether GELU is best a part of the product. Before sm_90, and on sm_120, the library computes it by a slow kernel
// behind the product, or a slow product; our own kernel is faster.
bool FusesGelu(int compute_major) { return compute_major == 9 || compute_major == 10; }

struct Library {
  decltype(&cublasLtCreate) Create = nullptr;
  decltype(&cublasLtDestroy) Destroy = nullptr;
  decltype(&cublasLtGetStatusString) GetStatusString = nullptr;
  decltype(&cublasLtMatmul) Matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) AlgoGetHeuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) DescCreate = nullptr;
  decltype(&cublasLtMatmulDescDestroy) DescDestroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) DescSetAttribute = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) LayoutCreate = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) LayoutDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) PreferenceCreate = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) PreferenceDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) PreferenceSetAttribute = nullptr;

  absl::Status ToStatus(cublasStatus_t status, const std::string& what) const {
    if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
    const std::string message = absl::StrCat(what, ": ", GetStatusString(status));
    if (status == CUBLAS_STATUS_ALLOC_FAILED) return absl::ResourceExhaustedError(message);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return absl::UnimplementedError(message);
    return absl::InternalError(message);
  }
};

absl::StatusOr<const Library*> Open() {
  const std::string name = absl::StrCat("libcublasLt.so.", CUBLAS_VER_MAJOR);
  PENSTOCK_ASSIGN_OR_RETURN(const DynamicLibrary library, DynamicLibrary::Open({name}));
  Library lt;
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtCreate", &lt.Create));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtDestroy", &lt.Destroy));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtGetStatusString", &lt.GetStatusString));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmul", &lt.Matmul));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmulAlgoGetHeuristic", &lt.AlgoGetHeuristic));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmulDescCreate", &lt.DescCreate));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmulDescDestroy", &lt.DescDestroy));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmulDescSetAttribute", &lt.DescSetAttribute));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatrixLayoutCreate", &lt.LayoutCreate));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatrixLayoutDestroy", &lt.LayoutDestroy));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmulPreferenceCreate", &lt.PreferenceCreate));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmulPreferenceDestroy", &lt.PreferenceDestroy));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("cublasLtMatmulPreferenceSetAttribute", &lt.PreferenceSetAttribute));
  return new Library(lt);
}

absl::StatusOr<const Library*> GetLibrary() {
  static const auto* const library = new absl::StatusOr<const Library*>(Open());
  return *library;
}

cudaDataType_t TypeOf(DataType type) { return type == DataType::kBfloat16 ? CUDA_R_16BF : CUDA_R_32F; }

// One of the library's objects, with its owner.
template <typename T>
class Handle {
 public:
  using Destroy = cublasStatus_t (*)(T);
  explicit Handle(Destroy destroy) : destroy_(destroy) {}
  ~Handle() {
    if (value_ != nullptr) destroy_(value_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  T get() const { return value_; }
  T* receive() { return &value_; }

 private:
  const Destroy destroy_;
  T value_ = nullptr;
};

bool IsMultiple(uint32_t alignment, std::initializer_list<const void*> addresses) {
  return std::ranges::all_of(
      addresses, [&](const void* address) { return reinterpret_cast<uintptr_t>(address) % alignment == 0; });
}

class CublasLtMatmul : public Matmul {
 public:
  CublasLtMatmul(const Library* lt, cublasLtHandle_t handle, const MatmulSpec& spec, int choice)
      : lt_(*lt),
        handle_(handle),
        spec_(spec),
        choice_(choice),
        a_(lt->LayoutDestroy),
        b_(lt->LayoutDestroy),
        d_(lt->LayoutDestroy),
        description_(lt->DescDestroy) {}

  absl::Status Init() {
    if (spec_.epilogue != Epilogue::kNone && spec_.ldd % kAuxiliaryUnit != 0) {
      return absl::UnimplementedError(
          absl::StrCat(Name(), ": its epilogue needs rows of a multiple of ", kAuxiliaryUnit, " elements"));
    }
    const cudaDataType_t in = TypeOf(spec_.input);
    PENSTOCK_RETURN_IF_ERROR(
        Layout(a_, in, spec_.transpose_a ? spec_.k : spec_.m, spec_.transpose_a ? spec_.m : spec_.k, spec_.lda));
    PENSTOCK_RETURN_IF_ERROR(
        Layout(b_, in, spec_.transpose_b ? spec_.n : spec_.k, spec_.transpose_b ? spec_.k : spec_.n, spec_.ldb));
    PENSTOCK_RETURN_IF_ERROR(Layout(d_, TypeOf(spec_.output), spec_.m, spec_.n, spec_.ldd));
    PENSTOCK_RETURN_IF_ERROR(Describe(nullptr, nullptr, description_));
    PENSTOCK_ASSIGN_OR_RETURN(aligned_, Choose(kMatmulAlignment));
    if (spec_.epilogue == Epilogue::kNone) {
      PENSTOCK_ASSIGN_OR_RETURN(unaligned_, Choose(1));
      return absl::OkStatus();
    }
    return aligned_.has_value() ? absl::OkStatus()
                                : absl::UnimplementedError(absl::StrCat(Name(), ": the library has no algorithm"));
  }

  int64_t workspace_bytes() const override { return kGpuProductBytes; }

  absl::Status Run(const OpContext& context, const void* a, const void* b, const void* bias, const void* addend,
                   void* d, void* aux) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    const bool is_aligned = IsMultiple(kMatmulAlignment, {a, b, bias, addend, d, aux});
    PENSTOCK_CHECK(spec_.epilogue == Epilogue::kNone || (addend == nullptr && aux != nullptr && is_aligned));
    const std::optional<cublasLtMatmulAlgo_t>& algorithm = is_aligned ? aligned_ : unaligned_;
    if (!algorithm.has_value()) return RunPlain(context, a, b, bias, addend, d);
    // One that holds addresses is made for each call, since calls may run on several threads.
    Handle<cublasLtMatmulDesc_t> addressed(lt_.DescDestroy);
    const bool addresses = spec_.has_bias || spec_.epilogue != Epilogue::kNone;
    if (addresses) PENSTOCK_RETURN_IF_ERROR(Describe(bias, aux, addressed));
    const uintptr_t workspace =
        (reinterpret_cast<uintptr_t>(context.workspace) + kWorkspaceAlignment - 1) & ~(kWorkspaceAlignment - 1);
    const float one = 1;
    const float beta = addend == nullptr ? 0 : 1;
    return lt_.ToStatus(
        lt_.Matmul(handle_, addresses ? addressed.get() : description_.get(), &one, a, a_.get(), b, b_.get(), &beta,
                   addend == nullptr ? d : addend, d_.get(), d, d_.get(), &*algorithm,
                   reinterpret_cast<void*>(workspace), kWorkspaceBytes, static_cast<cudaStream_t>(context.stream)),
        Name());
  }

 private:
  using LayoutHandle = Handle<cublasLtMatrixLayout_t>;

  std::string Name() const {
    return absl::StrCat("cuBLASLt's product ", spec_.m, " x ", spec_.n, " x ", spec_.k, " in ",
                        DataTypeName(spec_.input));
  }

  absl::Status Layout(LayoutHandle& layout, cudaDataType_t type, int64_t rows, int64_t columns, int64_t ld) {
    return lt_.ToStatus(
        lt_.LayoutCreate(layout.receive(), type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld),
        Name());
  }

  cublasLtEpilogue_t EpilogueOf() const {
    switch (spec_.epilogue) {
      case Epilogue::kGelu:
        return spec_.has_bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
      case Epilogue::kGeluGradient:
        return CUBLASLT_EPILOGUE_DGELU;
      default:
        return spec_.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
  }

  absl::Status Describe(const void* bias, void* aux, Handle<cublasLtMatmulDesc_t>& description) const {
    // Not TF32: fp32 means fp32.
    PENSTOCK_RETURN_IF_ERROR(
        lt_.ToStatus(lt_.DescCreate(description.receive(), CUBLAS_COMPUTE_32F, CUDA_R_32F), Name()));
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      return lt_.ToStatus(lt_.DescSetAttribute(description.get(), attribute, &value, sizeof(value)), Name());
    };
    const cublasOperation_t op_a = spec_.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t op_b = spec_.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_TRANSA, op_a));
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_TRANSB, op_b));
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_EPILOGUE, EpilogueOf()));
    if (spec_.has_bias) PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    if (spec_.epilogue == Epilogue::kNone) return absl::OkStatus();
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, spec_.ldd));
    return set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
  }

  // The library's first choice (or a later one, for a benchmark) for matrices at multiples of `alignment` bytes, or of
  // an element's where that is more; none where it has none. It isn't timed: a choice by the clock could fall on
  // another algorithm, with other bits, in another process. k may be shared out where that is right (kTileTerms), the
  // parts' sums are fp32 and have a fixed order: not in place, and not in D's type, which may be bf16.
  absl::StatusOr<std::optional<cublasLtMatmulAlgo_t>> Choose(int64_t alignment) {
    const auto input = static_cast<uint32_t>(std::max(alignment, BytesOf(spec_.input)));
    const auto output = static_cast<uint32_t>(std::max(alignment, BytesOf(spec_.output)));
    Handle<cublasLtMatmulDesc_t> description(lt_.DescDestroy);
    // The library reads from addresses how well aligned they are: these are no better than what will come.
    void* const any = reinterpret_cast<void*>(static_cast<uintptr_t>(output));
    PENSTOCK_RETURN_IF_ERROR(Describe(any, any, description));
    Handle<cublasLtMatmulPreference_t> preference(lt_.PreferenceDestroy);
    PENSTOCK_RETURN_IF_ERROR(lt_.ToStatus(lt_.PreferenceCreate(preference.receive()), Name()));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      return lt_.ToStatus(lt_.PreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)), Name());
    };
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kWorkspaceBytes)));
    const uint32_t reductions =
        spec_.k % kTileTerms == 0 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions));
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, input));
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, input));
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, output));
    PENSTOCK_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, output));
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(choice_) + 1);
    int found = 0;
    const cublasStatus_t status =
        lt_.AlgoGetHeuristic(handle_, description.get(), a_.get(), b_.get(), d_.get(), d_.get(), preference.get(),
                             static_cast<int>(results.size()), results.data(), &found);
    // There are four ways of saying that there is none; the second one for matrices of one row or column.
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return std::nullopt;
    if (status == CUBLAS_STATUS_INVALID_VALUE && std::min({spec_.m, spec_.n, spec_.k}) == 1) return std::nullopt;
    PENSTOCK_RETURN_IF_ERROR(lt_.ToStatus(status, absl::StrCat(Name(), ", an algorithm")));
    if (found == 0 || results[0].state != CUBLAS_STATUS_SUCCESS) return std::nullopt;
    const cublasLtMatmulHeuristicResult_t& last = results[static_cast<size_t>(found) - 1];
    return last.state == CUBLAS_STATUS_SUCCESS ? last.algo : results[0].algo;
  }

  // Without the library.
  absl::Status RunPlain(const OpContext& context, const void* a, const void* b, const void* bias, const void* addend,
                        void* d) const {
    const PlainProductSizes sizes = {.m = spec_.m,
                                     .n = spec_.n,
                                     .k = spec_.k,
                                     .a_row = spec_.transpose_a ? spec_.lda : 1,
                                     .a_term = spec_.transpose_a ? 1 : spec_.lda,
                                     .b_row = spec_.transpose_b ? 1 : spec_.ldb,
                                     .b_term = spec_.transpose_b ? spec_.ldb : 1,
                                     .ldd = spec_.ldd};
    const auto run = [&](auto in, auto out) {
      return ToStatus(
          PlainProduct(sizes, As(a, in), As(b, in), As(bias, out), As(addend, out), As(d, out), StreamOf(context)),
          "a plain product");
    };
    if (spec_.input == DataType::kFloat32) return run(float{}, float{});
    return ByType(spec_.output, [&](auto out) { return run(Bf16{}, out); });
  }

  const Library& lt_;
  const cublasLtHandle_t handle_;
  const MatmulSpec spec_;
  const int choice_;
  LayoutHandle a_;
  LayoutHandle b_;
  LayoutHandle d_;
  Handle<cublasLtMatmulDesc_t> description_;  // without addresses
  // For matrices at multiples of kMatmulAlignment, and for others.
  std::optional<cublasLtMatmulAlgo_t> aligned_;
  std::optional<cublasLtMatmulAlgo_t> unaligned_;
};

class CublasLt : public MatmulFactory {
 public:
  CublasLt(const Library* lt, int choice) : lt_(lt), choice_(choice), handle_(lt->Destroy) {}
  absl::Status Init() {
    int device = 0;
    PENSTOCK_RETURN_IF_ERROR(ToStatus(cudaGetDevice(&device), "the current device"));
    PENSTOCK_ASSIGN_OR_RETURN(const DeviceFacts facts, QueryDevice(device));
    fuses_gelu_ = FusesGelu(facts.compute_major);
    return lt_->ToStatus(lt_->Create(handle_.receive()), "cuBLASLt");
  }

  absl::StatusOr<std::unique_ptr<Matmul>> Create(const MatmulSpec& spec) override {
    if (spec.epilogue != Epilogue::kNone && !fuses_gelu_) {
      return absl::UnimplementedError("GELU in a product: slower than behind it on this device");
    }
    auto matmul = std::make_unique<CublasLtMatmul>(lt_, handle_.get(), spec, choice_);
    PENSTOCK_RETURN_IF_ERROR(matmul->Init());
    return std::unique_ptr<Matmul>(std::move(matmul));
  }

 private:
  const Library* const lt_;
  const int choice_;
  Handle<cublasLtHandle_t> handle_;
  bool fuses_gelu_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MatmulFactory>> CreateCublasLt(int choice) {
  PENSTOCK_ASSIGN_OR_RETURN(const Library* const library, GetLibrary());
  auto factory = std::make_unique<CublasLt>(library, choice);
  PENSTOCK_RETURN_IF_ERROR(factory->Init());
  return std::unique_ptr<MatmulFactory>(std::move(factory));
}

}  // namespace penstock::cuda
