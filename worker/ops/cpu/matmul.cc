#include "worker/ops/cpu/matmul.h"

#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

using Tag = dnnl::memory::format_tag;

dnnl::memory::desc Matrix(int64_t rows, int64_t columns, bool transposed) {
  return {{rows, columns}, dnnl::memory::data_type::f32, transposed ? Tag::ba : Tag::ab};
}

absl::Status Failed(const MatmulShape& shape, const char* what, const dnnl::error& error) {
  return absl::InternalError(absl::StrCat("oneDNN couldn't ", what, " the product (", shape.m, ", ", shape.k, ") x (",
                                          shape.k, ", ", shape.n, "): ", error.what(), " (status ",
                                          static_cast<int>(error.status), ")"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Matmul>> Matmul::Create(const MatmulShape& shape, int threads,
                                                             const dnnl::engine& engine) {
  std::shared_ptr<Matmul> matmul(new Matmul);
  matmul->shape_ = shape;
  matmul->threads_ = threads;
  matmul->engine_ = engine;
  SetLibraryThreads(threads);
  try {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (shape.accumulate) {
      dnnl::post_ops add_to_c;
      add_to_c.append_sum(1.0F);
      attributes.set_post_ops(add_to_c);
    }
    const auto a = Matrix(shape.m, shape.k, shape.a_transposed);
    const auto b = Matrix(shape.k, shape.n, shape.b_transposed);
    const auto c = Matrix(shape.m, shape.n, false);
    matmul->descriptor_ = dnnl::matmul::primitive_desc(
        shape.has_bias ? dnnl::matmul::desc(a, b, Matrix(1, shape.n, false), c) : dnnl::matmul::desc(a, b, c),
        attributes, engine);
    matmul->primitive_ = dnnl::matmul(matmul->descriptor_);
    matmul->workspace_bytes_ = static_cast<int64_t>(matmul->descriptor_.scratchpad_desc().get_size());
  } catch (const dnnl::error& error) {
    return Failed(shape, "build", error);
  }
  return std::shared_ptr<const Matmul>(std::move(matmul));
}

absl::Status Matmul::Run(const OpContext& context, const float* a, const float* b, const float* bias, float* c) const {
  PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes_);
  PENSTOCK_CHECK((bias != nullptr) == shape_.has_bias);
  SetLibraryThreads(threads_);
  // oneDNN's handles aren't const; it only reads the inputs.
  const auto handle = [this](const dnnl::memory::desc& desc, const float* data) {
    return dnnl::memory(desc, engine_, const_cast<float*>(data));
  };
  try {
    std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, handle(descriptor_.src_desc(), a)},
        {DNNL_ARG_WEIGHTS, handle(descriptor_.weights_desc(), b)},
        {DNNL_ARG_DST, handle(descriptor_.dst_desc(), c)},
        {DNNL_ARG_SCRATCHPAD, dnnl::memory(descriptor_.scratchpad_desc(), engine_, context.workspace)},
    };
    if (shape_.has_bias) arguments.emplace(DNNL_ARG_BIAS, handle(Matrix(1, shape_.n, false), bias));
    dnnl::stream stream(engine_);
    primitive_.execute(stream, arguments);
    stream.wait();
  } catch (const dnnl::error& error) {
    return Failed(shape_, "run", error);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Matmul>> MatmulCache::Get(const MatmulShape& shape) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto found = by_shape_.find(shape); found != by_shape_.end()) return found->second;
  try {
    if (!engine_) engine_ = dnnl::engine(dnnl::engine::kind::cpu, 0);
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("oneDNN has no CPU engine: ", error.what()));
  }
  PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<const Matmul> matmul, Matmul::Create(shape, threads_, engine_));
  by_shape_.emplace(shape, matmul);
  return matmul;
}

absl::Status StridedMatmul(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, float alpha,
                           const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c,
                           int64_t ldc) {
  const dnnl_status_t status =
      dnnl_sgemm(a_transposed ? 'T' : 'N', b_transposed ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (status == dnnl_success) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("oneDNN couldn't run the strided product (", m, ", ", k, ") x (", k, ", ", n,
                                          "): status ", static_cast<int>(status)));
}

}  // namespace penstock::cpu
