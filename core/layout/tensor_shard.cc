#include "core/layout/tensor_shard.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace penstock {

ElementRange ShardOfAxis(int64_t extent, const TensorShard& shard) {
  PENSTOCK_CHECK(shard.degree > 0 && shard.rank >= 0 && shard.rank < shard.degree);
  const int64_t each = extent / shard.degree;
  const int64_t rest = extent % shard.degree;
  const int64_t begin = each * shard.rank + std::min<int64_t>(shard.rank, rest);
  return {begin, begin + each + (shard.rank < rest ? 1 : 0)};
}

ElementRange ShardOfParameter(const Parameter& parameter, const TensorShard& shard) {
  if (parameter.split == SplitAxis::kReplicated) return parameter.range();
  const int64_t rows = parameter.shape.front();
  const int64_t row_elements = parameter.size() / rows;
  const ElementRange mine = ShardOfAxis(rows, shard);
  return {parameter.begin + mine.begin * row_elements, parameter.begin + mine.end * row_elements};
}

}  // namespace penstock
