// What two models differ in, tensor by tensor: two checkpoints, or a checkpoint and a Hugging Face folder.
//
// Thread-safe: free functions.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_DIFF_H_
#define PENSTOCK_SERVICES_CHECKPOINT_DIFF_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/checkpoint/pretrained.h"

namespace penstock {

struct TensorDifference {
  std::string name;
  // Of a's minus b's elements.
  double max_abs = 0;
  // |a - b| / |b|, Euclidean; 0 for equal ones, infinite when b alone is zero, NaN where one of them is not finite.
  double relative_norm = 0;
  // Elements whose bits differ.
  int64_t different = 0;
  int64_t elements = 0;
};

// Of the weights, in table order. INVALID_ARGUMENT, naming what differs, when they aren't the same model.
absl::StatusOr<std::vector<TensorDifference>> DiffWeights(const PretrainedWeights& a, const PretrainedWeights& b);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_DIFF_H_
