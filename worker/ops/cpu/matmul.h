// Matrix products by oneDNN, built once for each shape and shared by all layers that have it.
//
// oneDNN chooses its code by the processor it runs on. Its exceptions end here. With equal threads the same product
// gives the same bits (its own guarantee, and tested). Where it has no bf16 (no AVX-512), operands are widened first.
#ifndef PENSTOCK_WORKER_OPS_CPU_MATMUL_H_
#define PENSTOCK_WORKER_OPS_CPU_MATMUL_H_

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/data_type.h"
#include "dnnl.hpp"
#include "worker/ops/context.h"
#include "worker/ops/linear.h"

namespace penstock::cpu {

// c (m, n) = or += a (m, k) b (k, n) [+ bias (n)], summed in fp32.
struct MatmulShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  bool a_transposed = false;  // a is stored as (k, m)
  bool b_transposed = false;  // b is stored as (n, k)
  bool has_bias = false;
  DataType input = DataType::kFloat32;   // of a, b and bias
  DataType output = DataType::kFloat32;  // of c

  friend auto operator<=>(const MatmulShape&, const MatmulShape&) = default;
};

// Thread-safety: const; concurrent runs need distinct workspaces.
class Matmul {
 public:
  static absl::StatusOr<std::shared_ptr<const Matmul>> Create(const MatmulShape& shape, int threads,
                                                              const dnnl::engine& engine);

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // bias is null without one. Adding needs an output of fp32.
  absl::Status Run(const OpContext& context, const void* a, const void* b, const void* bias, void* c,
                   GradientMode mode = GradientMode::kWrite) const;

 private:
  // One of the two: it writes c or adds to it.
  struct Primitive {
    dnnl::matmul::primitive_desc descriptor;
    dnnl::matmul primitive;
  };

  Matmul() = default;
  // Throws what oneDNN throws.
  Primitive Build(DataType input, DataType output, bool add) const;
  absl::Status BuildAll();
  void Execute(const Primitive& primitive, std::byte* scratchpad, const void* a, const void* b, const void* bias,
               void* c) const;
  absl::Status RunWidened(const OpContext& context, const void* a, const void* b, const void* bias, void* c,
                          GradientMode mode) const;

  MatmulShape shape_;
  int threads_ = 1;
  int64_t workspace_bytes_ = 0;
  int64_t scratchpad_bytes_ = 0;
  bool widened_ = false;
  dnnl::engine engine_;
  Primitive write_;
  Primitive add_;  // empty unless c is fp32 and there is no bias
};

// Thread-safe.
class MatmulCache {
 public:
  explicit MatmulCache(int threads) : threads_(threads) {}

  absl::StatusOr<std::shared_ptr<const Matmul>> Get(const MatmulShape& shape);
  int threads() const { return threads_; }

 private:
  const int threads_;
  std::mutex mutex_;
  dnnl::engine engine_{};                                          // guarded by mutex_, made with the first product
  std::map<MatmulShape, std::shared_ptr<const Matmul>> by_shape_;  // guarded by mutex_
};

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_MATMUL_H_
