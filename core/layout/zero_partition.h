// The parameters that a pipeline stage uses, and the ZeRO partition of them over its data ranks.
//
// The owner of a range adds up the data group's gradients for it, pushes them to the parameter service and pulls the
// new weights. ZeRO 0: data rank 0 owns everything. ZeRO 1: equal parts (Rajbhandari et al. 2020, "ZeRO: Memory
// Optimizations Toward Training Trillion Parameter Models"). The tied parameter is partitioned by itself, identically
// on both of its stages, so that owners meet owners.
//
// Pure functions on values.
#ifndef PENSTOCK_CORE_LAYOUT_ZERO_PARTITION_H_
#define PENSTOCK_CORE_LAYOUT_ZERO_PARTITION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/model/parameter_table.h"

namespace penstock {

// Parts of the partition begin at multiples of this many elements of the space (64 bytes of fp32: a cache line and a
// full vector), except at the ends of the range.
inline constexpr int64_t kPartitionAlignment = 16;

// Blocks [begin, end) of a stage.
struct BlockRange {
  int begin = 0;
  int end = 0;

  int size() const { return end - begin; }
  friend bool operator==(const BlockRange&, const BlockRange&) = default;
};

// What one stage uses of the canonical space.
struct StageParameters {
  BlockRange blocks;
  // Parameters that only this stage uses. One range, because the tied parameter is the first one of block 0.
  ElementRange untied;
  // The tied parameter where this stage uses it (first and last stage); else empty.
  ElementRange tied;
  // True where the stage holds the embedding: it pushes the tied gradient.
  bool first = false;
  // True where the stage holds the head.
  bool last = false;

  // With one stage, embedding and head are both here: one copy of the tied weights, two gradient accumulators.
  bool tied_twice() const { return first && last && !tied.empty(); }
  // Elements of weights that the stage holds.
  int64_t size() const { return untied.size() + tied.size(); }
};

// INVALID_ARGUMENT when `blocks` is not a non-empty range of the table's blocks.
absl::StatusOr<StageParameters> ParametersOfStage(const ParameterTable& table, const BlockRange& blocks);

// What one data rank owns of a stage's parameters.
struct OwnedRanges {
  ElementRange untied;
  // The same on the first and the last stage.
  ElementRange tied;

  int64_t size() const { return untied.size() + tied.size(); }
  friend bool operator==(const OwnedRanges&, const OwnedRanges&) = default;
};

// INVALID_ARGUMENT unless zero_stage is 0 or 1 and 0 <= data_rank < data_degree.
absl::StatusOr<OwnedRanges> OwnedBy(const StageParameters& stage, int zero_stage, int data_degree, int data_rank);

// Part `index` of `parts` of `range`: sizes as equal as the alignment allows. 0 <= index < parts.
ElementRange PartitionPart(const ElementRange& range, int parts, int index);

}  // namespace penstock

#endif  // PENSTOCK_CORE_LAYOUT_ZERO_PARTITION_H_
