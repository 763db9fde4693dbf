// Lays tensors of float out in one region, each on a cache line of its own.
#ifndef PENSTOCK_WORKER_MODEL_TENSOR_LAYOUT_H_
#define PENSTOCK_WORKER_MODEL_TENSOR_LAYOUT_H_

#include <cstdint>

#include "worker/model/memory_plan.h"

namespace penstock {

// Add() gives the next tensor's offset in elements; elements() is the region's size in the end. A plain value.
class TensorLayout {
 public:
  int64_t Add(int64_t elements) {
    constexpr int64_t kUnit = kRegionAlignment / static_cast<int64_t>(sizeof(float));
    const int64_t offset = elements_;
    elements_ += (elements + kUnit - 1) / kUnit * kUnit;
    return offset;
  }
  int64_t elements() const { return elements_; }

 private:
  int64_t elements_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_TENSOR_LAYOUT_H_
