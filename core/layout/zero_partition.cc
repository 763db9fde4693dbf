#include "core/layout/zero_partition.h"

#include <algorithm>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {

absl::StatusOr<StageParameters> ParametersOfStage(const ParameterTable& table, const BlockRange& blocks,
                                                  const TensorShard& tensor) {
  const int block_count = static_cast<int>(table.blocks().size());
  if (blocks.begin < 0 || blocks.begin >= blocks.end || blocks.end > block_count) {
    return absl::InvalidArgumentError(absl::StrCat("blocks [", blocks.begin, ", ", blocks.end,
                                                   ") of a stage must be a non-empty range within [0, ", block_count,
                                                   ")"));
  }
  if (tensor.degree < 1 || tensor.rank < 0 || tensor.rank >= tensor.degree) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor rank ", tensor.rank, " must be in [0, ", tensor.degree, "), the tensor degree"));
  }
  StageParameters stage;
  stage.blocks = blocks;
  stage.tensor = tensor;
  stage.first = blocks.begin == 0;
  stage.last = blocks.end == block_count;
  RangeList shared;
  for (const Parameter& parameter : table.parameters()) {
    const bool here = parameter.block >= blocks.begin && parameter.block < blocks.end;
    if (!here && !(parameter.tied && stage.last)) continue;
    const ElementRange held = ShardOfParameter(parameter, tensor);
    if (held.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("a tensor degree of ", tensor.degree, " leaves rank ", tensor.rank,
                                                     " nothing of ", absl::string_view(parameter.name)));
    }
    RangeList& list = parameter.tied ? stage.tied : IsShared(parameter, tensor.degree) ? shared : stage.untied;
    list.Add(held);
  }
  stage.shared = shared.size();
  stage.untied.Add(shared);
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
  if (zero_stage < 0 || zero_stage > 2) {
    return absl::InvalidArgumentError(absl::StrCat("zero stage ", zero_stage, " must be 0, 1 or 2"));
  }
  const auto part = [&](const ElementRange& memory) {
    if (zero_stage == 0) return data_rank == 0 && !memory.empty() ? memory : ElementRange{};
    return PartitionPart(memory, data_degree, data_rank);
  };
  OwnedRanges owned;
  owned.untied_memory = part(stage.untied_answered());
  owned.untied = stage.untied.Slice(owned.untied_memory);
  owned.tied_memory = part({0, stage.tied.size()});
  owned.tied = stage.tied.Slice(owned.tied_memory);
  return owned;
}

std::vector<ElementRange> UntiedStretches(const ParameterTable& table, const StageParameters& stage, int block) {
  const Block& here = table.blocks()[static_cast<size_t>(block)];
  std::vector<ElementRange> stretches;
  for (int i = here.first_parameter; i < here.last_parameter; ++i) {
    const Parameter& parameter = table.parameters()[static_cast<size_t>(i)];
    if (parameter.tied) continue;
    const ElementRange shard = ShardOfParameter(parameter, stage.tensor);
    if (shard.empty()) continue;
    const std::optional<int64_t> offset = stage.untied.OffsetOf(shard);
    PENSTOCK_CHECK(offset.has_value());
    stretches.push_back({*offset, *offset + shard.size()});
  }
  return Merge(stretches);
}

int64_t LargestBucket(const ParameterTable& table, const StageParameters& stage) {
  int64_t largest = stage.last ? stage.tied.size() : 0;
  for (int block = stage.blocks.begin; block < stage.blocks.end; ++block) {
    const int64_t tied = block == 0 ? stage.tied.size() : 0;
    largest = std::max(largest, TotalSize(UntiedStretches(table, stage, block)) + tied);
  }
  return largest;
}

}  // namespace penstock
