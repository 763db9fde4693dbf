// What tensor parallelism leaves of a parameter on each rank of a tensor group (Shoeybi et al. 2019, "Megatron-LM").
//
// A split parameter is cut along its outermost axis, which makes each shard one range of the canonical space. Where the
// degree doesn't divide the axis (a vocabulary), the first shards have one row more than the last ones: nothing is
// padded. A replicated parameter is whole on every rank, and tensor rank 0 answers for it.
//
// Pure functions on values.
#ifndef PENSTOCK_CORE_LAYOUT_TENSOR_SHARD_H_
#define PENSTOCK_CORE_LAYOUT_TENSOR_SHARD_H_

#include <cstdint>

#include "core/layout/range.h"
#include "core/model/parameter_table.h"

namespace penstock {

// A rank's place in its tensor group: 0 <= rank < degree.
struct TensorShard {
  int degree = 1;
  int rank = 0;

  friend bool operator==(const TensorShard&, const TensorShard&) = default;
};

// Shard `shard` of an axis of `extent`: [begin, end). Empty for some where the degree is larger than the axis.
ElementRange ShardOfAxis(int64_t extent, const TensorShard& shard);

// True where each rank of a tensor group of this degree holds the whole parameter.
inline bool IsShared(const Parameter& parameter, int tensor_degree) {
  return tensor_degree > 1 && parameter.split == SplitAxis::kReplicated;
}

// The canonical elements of the parameter that the rank holds.
ElementRange ShardOfParameter(const Parameter& parameter, const TensorShard& shard);

}  // namespace penstock

#endif  // PENSTOCK_CORE_LAYOUT_TENSOR_SHARD_H_
