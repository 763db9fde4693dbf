#include "core/layout/shard_ranges.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"

namespace penstock {

absl::StatusOr<ShardRanges> ShardRanges::Create(int64_t elements, int shards) {
  if (elements <= 0) return absl::InvalidArgumentError(absl::StrCat("elements: ", elements, " must be at least 1"));
  if (shards <= 0) return absl::InvalidArgumentError(absl::StrCat("shards: ", shards, " must be at least 1"));
  return ShardRanges(elements, shards);
}

ElementRange ShardRanges::Pieces(int shard) const {
  PENSTOCK_CHECK(shard >= 0 && shard < shards_);
  // Whole part and rest apart, so that the product can't overflow.
  const int64_t pieces = PieceCount(elements_);
  const int64_t each = pieces / shards_;
  const int64_t rest = pieces % shards_;
  return {each * shard + rest * shard / shards_, each * (shard + 1) + rest * (shard + 1) / shards_};
}

ElementRange ShardRanges::Range(int shard) const {
  const ElementRange pieces = Pieces(shard);
  if (pieces.empty()) return {};
  return {pieces.begin * kPieceElements, std::min(pieces.end * kPieceElements, elements_)};
}

int ShardRanges::ShardOf(int64_t element) const {
  PENSTOCK_CHECK(element >= 0 && element < elements_);
  const int64_t piece = element / kPieceElements;
  // The first shard whose pieces end beyond ours.
  int low = 0;
  int high = shards_ - 1;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (Pieces(middle).end > piece) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

std::vector<ShardPart> ShardRanges::Cut(const ElementRange& range) const {
  std::vector<ShardPart> parts;
  if (range.empty()) return parts;
  PENSTOCK_CHECK(range.begin >= 0 && range.end <= elements_);
  for (int shard = ShardOf(range.begin); shard < shards_; ++shard) {
    const ElementRange own = Range(shard);
    if (own.empty()) continue;
    if (own.begin >= range.end) break;
    parts.push_back({shard, Intersect(own, range)});
  }
  return parts;
}

}  // namespace penstock
