#include "worker/ops/cuda/kernels/elementwise.h"

#include "worker/cuda/status.h"
#include "worker/ops/cuda/kernels/dropout.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

class CudaGelu : public Gelu {
 public:
  CudaGelu(int64_t elements, DataType type) : elements_(elements), type_(type) {}

  absl::Status Forward(const OpContext& context, const void* x, void* y) const override {
    return ByType(type_, [&](auto type) {
      return ToStatus(GeluForward(As(x, type), As(y, type), elements_, StreamOf(context)), "gelu");
    });
  }

  absl::Status Backward(const OpContext& context, const void* x, const void* dy, void* dx) const override {
    return ByType(type_, [&](auto type) {
      return ToStatus(GeluBackward(As(x, type), As(dy, type), As(dx, type), elements_, StreamOf(context)),
                      "gelu's gradient");
    });
  }

 private:
  const int64_t elements_;
  const DataType type_;
};

class CudaResidualAdd : public ResidualAdd {
 public:
  CudaResidualAdd(int64_t elements, DataType type) : elements_(elements), type_(type) {}

  absl::Status Forward(const OpContext& context, const void* a, const void* b, void* y) const override {
    return ByType(type_, [&](auto type) {
      return ToStatus(AddElements(As(a, type), As(b, type), As(y, type), elements_, StreamOf(context)), "residual add");
    });
  }

 private:
  const int64_t elements_;
  const DataType type_;
};

class CudaDropout : public Dropout {
 public:
  explicit CudaDropout(const DropoutShape& shape) : shape_(shape) {}

  absl::Status Apply(const OpContext& context, uint64_t first_sample, uint32_t site, const void* x,
                     void* y) const override {
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(ApplyDropout(shape_.rule, first_sample, site, shape_.samples, shape_.elements, As(x, type),
                                   As(y, type), StreamOf(context)),
                      "dropout");
    });
  }

 private:
  const DropoutShape shape_;
};

}  // namespace

std::unique_ptr<Dropout> CreateDropout(const DropoutShape& shape) { return std::make_unique<CudaDropout>(shape); }

std::unique_ptr<Gelu> CreateGelu(int64_t elements, DataType type) { return std::make_unique<CudaGelu>(elements, type); }

std::unique_ptr<ResidualAdd> CreateResidualAdd(int64_t elements, DataType type) {
  return std::make_unique<CudaResidualAdd>(elements, type);
}

}  // namespace penstock::cuda
