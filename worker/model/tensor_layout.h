// Lays tensors out in one region, each on a cache line of its own.
#ifndef PENSTOCK_WORKER_MODEL_TENSOR_LAYOUT_H_
#define PENSTOCK_WORKER_MODEL_TENSOR_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "core/base/data_type.h"
#include "worker/model/memory_plan.h"

namespace penstock {

// Each call places the next tensor and gives its address; bytes() is the region's size in the end. With a null base
// only the size is wanted, and addresses are null. A plain value.
class TensorLayout {
 public:
  explicit TensorLayout(std::byte* base) : base_(base) {}

  void* Add(DataType type, int64_t elements) {
    std::byte* const at = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += (elements * BytesOf(type) + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment;
    return at;
  }
  float* AddFloats(int64_t elements) { return static_cast<float*>(Add(DataType::kFloat32, elements)); }

  int64_t bytes() const { return bytes_; }

 private:
  std::byte* const base_;
  int64_t bytes_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_TENSOR_LAYOUT_H_
