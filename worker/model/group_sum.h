// A sum over the tensor group of a tensor of activations, in fp32 whatever their type.
//
// Thread-safety: none; the rank's thread. Borrows everything.
#ifndef PENSTOCK_WORKER_MODEL_GROUP_SUM_H_
#define PENSTOCK_WORKER_MODEL_GROUP_SUM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/data_type.h"
#include "core/base/status_macros.h"
#include "worker/model/tensor_group.h"
#include "worker/ops/backend.h"

namespace penstock {

struct GroupSum {
  // Null without tensor parallelism: there is nothing to add up.
  TensorGroup* tensor = nullptr;
  Backend* backend = nullptr;
  DataType type = DataType::kFloat32;
  // As many floats as the largest tensor has elements; not used in fp32.
  float* wide = nullptr;

  // Replaces data (elements) by the group's sum.
  absl::Status operator()(const OpContext& context, void* data, int64_t elements) const {
    if (tensor == nullptr) return absl::OkStatus();
    if (type == DataType::kFloat32) return tensor->Sum(context, static_cast<float*>(data), elements);
    PENSTOCK_RETURN_IF_ERROR(backend->Convert(context, type, data, DataType::kFloat32, wide, elements));
    PENSTOCK_RETURN_IF_ERROR(tensor->Sum(context, wide, elements));
    return backend->Convert(context, DataType::kFloat32, wide, type, data, elements);
  }
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GROUP_SUM_H_
