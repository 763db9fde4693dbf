// The parameters that a rank of a pipeline stage holds, and the ZeRO partition of them over its data ranks.
//
// What a rank holds lies in its memory as a list of ranges of the canonical space, one after the other (RangeList), and
// the partition cuts that memory: each data rank owns one stretch of it, which is a list of ranges again. The owner of
// a range adds up the data group's gradients for it, pushes them to the parameter service and pulls the new weights.
// ZeRO 0: data rank 0 owns everything. ZeRO 1: equal parts (Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward
// Training Trillion Parameter Models"). The tied parameter is partitioned by itself, identically on both of its stages,
// so that owners meet owners. With tensor parallelism this holds for each tensor rank's shard by itself; what is shared
// (whole on every tensor rank) belongs to tensor rank 0's owners.
//
// Pure functions on values.
#ifndef PENSTOCK_CORE_LAYOUT_ZERO_PARTITION_H_
#define PENSTOCK_CORE_LAYOUT_ZERO_PARTITION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/layout/range_list.h"
#include "core/layout/tensor_shard.h"
#include "core/model/parameter_table.h"

namespace penstock {

// Parts of the partition begin at multiples of this many elements of the memory (64 bytes of fp32: a cache line and a
// full vector).
inline constexpr int64_t kPartitionAlignment = 16;

// Blocks [begin, end) of a stage.
struct BlockRange {
  int begin = 0;
  int end = 0;

  int size() const { return end - begin; }
  friend bool operator==(const BlockRange&, const BlockRange&) = default;
};

// What one tensor rank of a stage holds of the canonical space.
struct StageParameters {
  BlockRange blocks;
  TensorShard tensor;
  // Parameters that only this stage uses, as its memory holds them: first what no other tensor rank has, in table
  // order, then what is shared in the tensor group, in table order. Without tensor parallelism one range, because
  // nothing is shared then and the tied parameter is the first one of block 0.
  RangeList untied;
  // Elements at the end of `untied` that every tensor rank holds: the same range of the space in each one's memory.
  int64_t shared = 0;
  // The tied parameter where this stage uses it (first and last stage); else empty.
  RangeList tied;
  // True where the stage holds the embedding: it pushes the tied gradient.
  bool first = false;
  // True where the stage holds the head.
  bool last = false;

  // With one stage, embedding and head are both here: one copy of the tied weights, two gradient accumulators.
  bool tied_twice() const { return first && last && !tied.empty(); }
  // Elements of weights that the rank holds.
  int64_t size() const { return untied.size() + tied.size(); }
  // Elements [0, n) of the untied memory, which this tensor rank's data group reduces, pushes and pulls.
  ElementRange untied_answered() const { return {0, untied.size() - (tensor.rank == 0 ? 0 : shared)}; }
  // Elements of the untied memory that tensor rank 0 sends to the others after a pull.
  ElementRange untied_shared() const { return {untied.size() - shared, untied.size()}; }
};

// INVALID_ARGUMENT when `blocks` is not a non-empty range of the table's blocks, or the tensor degree leaves a rank
// nothing of a parameter.
absl::StatusOr<StageParameters> ParametersOfStage(const ParameterTable& table, const BlockRange& blocks,
                                                  const TensorShard& tensor = {});

// What one data rank owns of a stage's parameters: a stretch of each memory, and the ranges that it holds.
struct OwnedRanges {
  // Elements of the stage's untied memory.
  ElementRange untied_memory;
  RangeList untied;
  // Elements of the stage's tied memory; the same on the first and the last stage.
  ElementRange tied_memory;
  RangeList tied;

  int64_t size() const { return untied.size() + tied.size(); }
  friend bool operator==(const OwnedRanges&, const OwnedRanges&) = default;
};

// INVALID_ARGUMENT unless zero_stage is 0, 1 or 2 and 0 <= data_rank < data_degree.
absl::StatusOr<OwnedRanges> OwnedBy(const StageParameters& stage, int zero_stage, int data_degree, int data_rank);

// ZeRO 2 reduces gradients block by block. What of the stage's untied memory holds the parameters of block `block`, one
// of the stage's, in order.
std::vector<ElementRange> UntiedStretches(const ParameterTable& table, const StageParameters& stage, int block);
// Elements of the largest bucket of gradients: a block's untied ones and, of the embedding, the tied parameter's; or
// the tied parameter's from the head.
int64_t LargestBucket(const ParameterTable& table, const StageParameters& stage);

// Part `index` of `parts` of `range`: sizes as equal as the alignment allows. 0 <= index < parts.
ElementRange PartitionPart(const ElementRange& range, int parts, int index);

}  // namespace penstock

#endif  // PENSTOCK_CORE_LAYOUT_ZERO_PARTITION_H_
