#include "core/layout/zero_partition.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {

absl::StatusOr<StageParameters> ParametersOfStage(const ParameterTable& table, const BlockRange& blocks) {
  const int block_count = static_cast<int>(table.blocks().size());
  if (blocks.begin < 0 || blocks.begin >= blocks.end || blocks.end > block_count) {
    return absl::InvalidArgumentError(absl::StrCat("blocks [", blocks.begin, ", ", blocks.end,
                                                   ") of a stage must be a non-empty range within [0, ", block_count,
                                                   ")"));
  }
  StageParameters stage;
  stage.blocks = blocks;
  stage.first = blocks.begin == 0;
  stage.last = blocks.end == block_count;
  stage.untied = {table.blocks()[blocks.begin].begin, table.blocks()[blocks.end - 1].end};
  if (const Parameter* tied = table.tied(); tied != nullptr) {
    PENSTOCK_CHECK(tied->begin == 0);
    if (stage.first) stage.untied.begin = tied->end;
    if (stage.first || stage.last) stage.tied = tied->range();
  }
  return stage;
}

ElementRange PartitionPart(const ElementRange& range, int parts, int index) {
  PENSTOCK_CHECK(parts > 0 && index >= 0 && index < parts);
  // Cut `cut` of `parts`, rounded down to the alignment but never before the range's begin.
  const auto boundary = [&](int cut) {
    if (cut == parts) return range.end;
    const int64_t each = range.size() / parts;
    const int64_t rest = range.size() % parts;
    const int64_t exact = range.begin + each * cut + rest * cut / parts;
    return std::max(range.begin, exact / kPartitionAlignment * kPartitionAlignment);
  };
  const ElementRange part{boundary(index), boundary(index + 1)};
  return part.empty() ? ElementRange{} : part;
}

absl::StatusOr<OwnedRanges> OwnedBy(const StageParameters& stage, int zero_stage, int data_degree, int data_rank) {
  if (data_degree < 1 || data_rank < 0 || data_rank >= data_degree) {
    return absl::InvalidArgumentError(
        absl::StrCat("data rank ", data_rank, " must be in [0, ", data_degree, "), the data degree"));
  }
  if (zero_stage == 0) return data_rank == 0 ? OwnedRanges{stage.untied, stage.tied} : OwnedRanges{};
  if (zero_stage == 1) {
    return OwnedRanges{PartitionPart(stage.untied, data_degree, data_rank),
                       PartitionPart(stage.tied, data_degree, data_rank)};
  }
  return absl::InvalidArgumentError(absl::StrCat("zero stage ", zero_stage, " must be 0 or 1"));
}

}  // namespace penstock
