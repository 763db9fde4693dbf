#include "worker/ops/cpu/matmul.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

using Tag = dnnl::memory::format_tag;

// Where a widened operand begins in the workspace.
constexpr int64_t kAlignment = 64;

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

dnnl::memory::desc Matrix(int64_t rows, int64_t columns, bool transposed, DataType type) {
  return {{rows, columns},
          type == DataType::kBfloat16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32,
          transposed ? Tag::ba : Tag::ab};
}

absl::Status Failed(const MatmulShape& shape, const char* what, const dnnl::error& error) {
  return absl::InternalError(absl::StrCat("oneDNN couldn't ", what, " the product (", shape.m, ", ", shape.k, ") x (",
                                          shape.k, ", ", shape.n, ") in ", DataTypeName(shape.input), ": ",
                                          error.what(), " (status ", static_cast<int>(error.status), ")"));
}

}  // namespace

Matmul::Primitive Matmul::Build(DataType input, DataType output, bool add) const {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (add) {
    dnnl::post_ops add_to_c;
    add_to_c.append_sum(1.0F);
    attributes.set_post_ops(add_to_c);
  }
  const auto a = Matrix(shape_.m, shape_.k, shape_.a_transposed, input);
  const auto b = Matrix(shape_.k, shape_.n, shape_.b_transposed, input);
  const auto c = Matrix(shape_.m, shape_.n, false, output);
  const auto descriptor = dnnl::matmul::primitive_desc(
      shape_.has_bias ? dnnl::matmul::desc(a, b, Matrix(1, shape_.n, false, input), c) : dnnl::matmul::desc(a, b, c),
      attributes, engine_);
  return {descriptor, dnnl::matmul(descriptor)};
}

absl::Status Matmul::BuildAll() {
  const bool adds = shape_.output == DataType::kFloat32 && !shape_.has_bias;
  try {
    try {
      write_ = Build(shape_.input, shape_.output, false);
      if (adds) add_ = Build(shape_.input, shape_.output, true);
    } catch (const dnnl::error& error) {
      if (shape_.input != DataType::kBfloat16 || error.status != dnnl_unimplemented) throw;
      widened_ = true;
      write_ = Build(DataType::kFloat32, DataType::kFloat32, false);
      if (adds) add_ = Build(DataType::kFloat32, DataType::kFloat32, true);
    }
    scratchpad_bytes_ = static_cast<int64_t>(write_.descriptor.scratchpad_desc().get_size());
    if (adds) {
      scratchpad_bytes_ =
          std::max(scratchpad_bytes_, static_cast<int64_t>(add_.descriptor.scratchpad_desc().get_size()));
    }
  } catch (const dnnl::error& error) {
    return Failed(shape_, "build", error);
  }
  workspace_bytes_ = scratchpad_bytes_;
  if (widened_) {
    for (const int64_t elements : {shape_.m * shape_.k, shape_.k * shape_.n, shape_.n, shape_.m * shape_.n}) {
      workspace_bytes_ = Aligned(workspace_bytes_) + elements * BytesOf(DataType::kFloat32);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Matmul>> Matmul::Create(const MatmulShape& shape, int threads,
                                                             const dnnl::engine& engine) {
  std::shared_ptr<Matmul> matmul(new Matmul);
  matmul->shape_ = shape;
  matmul->threads_ = threads;
  matmul->engine_ = engine;
  SetLibraryThreads(threads);
  PENSTOCK_RETURN_IF_ERROR(matmul->BuildAll());
  return std::shared_ptr<const Matmul>(std::move(matmul));
}

void Matmul::Execute(const Primitive& primitive, std::byte* scratchpad, const void* a, const void* b, const void* bias,
                     void* c) const {
  // oneDNN's handles aren't const; it only reads the inputs.
  const auto handle = [this](const dnnl::memory::desc& desc, const void* data) {
    return dnnl::memory(desc, engine_, const_cast<void*>(data));
  };
  const auto& descriptor = primitive.descriptor;
  std::unordered_map<int, dnnl::memory> arguments = {
      {DNNL_ARG_SRC, handle(descriptor.src_desc(), a)},
      {DNNL_ARG_WEIGHTS, handle(descriptor.weights_desc(), b)},
      {DNNL_ARG_DST, handle(descriptor.dst_desc(), c)},
      {DNNL_ARG_SCRATCHPAD, dnnl::memory(descriptor.scratchpad_desc(), engine_, scratchpad)},
  };
  if (shape_.has_bias) {
    const DataType type = widened_ ? DataType::kFloat32 : shape_.input;
    arguments.emplace(DNNL_ARG_BIAS, handle(Matrix(1, shape_.n, false, type), bias));
  }
  dnnl::stream stream(engine_);
  primitive.primitive.execute(stream, arguments);
  stream.wait();
}

absl::Status Matmul::RunWidened(const OpContext& context, const void* a, const void* b, const void* bias, void* c,
                                GradientMode mode) const {
  int64_t offset = scratchpad_bytes_;
  const auto take = [&](int64_t elements) {
    offset = Aligned(offset);
    float* const at = reinterpret_cast<float*>(context.workspace + offset);
    offset += elements * BytesOf(DataType::kFloat32);
    return at;
  };
  const auto each_part = [this](int64_t elements, const auto& convert) {
    ParallelFor(threads_, elements, kParallelElementsMin,
                [&](int64_t begin, int64_t end) { convert(begin, static_cast<size_t>(end - begin)); });
  };
  const auto widen = [&](const void* from, int64_t elements) -> const float* {
    float* const to = take(elements);
    if (from == nullptr) return nullptr;
    each_part(elements, [&](int64_t begin, size_t size) {
      ToFloat({static_cast<const Bfloat16*>(from) + begin, size}, {to + begin, size});
    });
    return to;
  };
  const float* const wide_a = widen(a, shape_.m * shape_.k);
  const float* const wide_b = widen(b, shape_.k * shape_.n);
  const float* const wide_bias = widen(bias, shape_.n);
  const bool narrows = shape_.output == DataType::kBfloat16;
  float* const wide_c = narrows ? take(shape_.m * shape_.n) : static_cast<float*>(c);
  Execute(mode == GradientMode::kAdd ? add_ : write_, context.workspace, wide_a, wide_b, wide_bias, wide_c);
  if (narrows) {
    each_part(shape_.m * shape_.n, [&](int64_t begin, size_t size) {
      ToBfloat16({wide_c + begin, size}, {static_cast<Bfloat16*>(c) + begin, size});
    });
  }
  return absl::OkStatus();
}

absl::Status Matmul::Run(const OpContext& context, const void* a, const void* b, const void* bias, void* c,
                         GradientMode mode) const {
  PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes_);
  PENSTOCK_CHECK((bias != nullptr) == shape_.has_bias);
  PENSTOCK_CHECK(mode == GradientMode::kWrite || (shape_.output == DataType::kFloat32 && !shape_.has_bias));
  SetLibraryThreads(threads_);
  try {
    if (widened_) return RunWidened(context, a, b, bias, c, mode);
    Execute(mode == GradientMode::kAdd ? add_ : write_, context.workspace, a, b, bias, c);
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

}  // namespace penstock::cpu
