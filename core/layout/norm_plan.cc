#include "core/layout/norm_plan.h"

#include <algorithm>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/model/parameter_table.h"

namespace penstock {
namespace {

// All that is owned, cut at pieces, in canonical order.
std::vector<NormFragment> Fragments(std::span<const std::vector<ElementRange>> owned) {
  std::vector<NormFragment> fragments;
  for (size_t rank = 0; rank < owned.size(); ++rank) {
    // Merged first: what one rank owns of a piece is as few fragments as can be.
    for (const ElementRange& range : Merge(owned[rank])) {
      for (const ElementRange& part : SplitAtMultiples(range, kPieceElements)) {
        fragments.push_back({static_cast<int>(rank), part});
      }
    }
  }
  std::sort(fragments.begin(), fragments.end(),
            [](const NormFragment& a, const NormFragment& b) { return a.range.begin < b.range.begin; });
  return fragments;
}

int HomeOf(const NormPiece& piece) {
  std::map<int, int64_t> elements;
  for (const NormFragment& fragment : piece.fragments) elements[fragment.rank] += fragment.range.size();
  return std::max_element(elements.begin(), elements.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

}  // namespace

absl::StatusOr<std::vector<NormPiece>> PlanNorm(int64_t elements, std::span<const std::vector<ElementRange>> owned) {
  std::vector<NormPiece> pieces;
  int64_t reached = 0;
  for (const NormFragment& fragment : Fragments(owned)) {
    if (fragment.range.begin != reached) {
      return absl::InvalidArgumentError(fragment.range.begin > reached
                                            ? absl::StrCat("element ", reached, " has no owner")
                                            : absl::StrCat("element ", fragment.range.begin, " has two owners"));
    }
    if (reached % kPieceElements == 0) {
      pieces.push_back({.range = {reached, std::min(reached + kPieceElements, elements)}, .home = 0, .fragments = {}});
    }
    pieces.back().fragments.push_back(fragment);
    reached = fragment.range.end;
  }
  if (reached != elements) {
    return absl::InvalidArgumentError(absl::StrCat("elements up to ", reached, " have an owner; there are ", elements));
  }
  for (NormPiece& piece : pieces) piece.home = HomeOf(piece);
  return pieces;
}

bool AssemblesPieces(std::span<const NormPiece> pieces, int rank, std::span<const ElementRange> owned) {
  return std::any_of(pieces.begin(), pieces.end(), [&](const NormPiece& piece) {
    return piece.home == rank && std::none_of(owned.begin(), owned.end(),
                                              [&](const ElementRange& range) { return range.Contains(piece.range); });
  });
}

}  // namespace penstock
