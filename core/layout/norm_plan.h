// Who adds up the squares of which piece when the ranks themselves need the gradient's norm (zero.placement local).
//
// A piece's sum has a fixed order of additions, so that it has the same bits wherever it is taken; but ownership cuts
// pieces where it likes. So each piece has a home, the rank that owns most of it, and the other owners send it their
// elements: as many bytes as there are cuts times a piece at most, whatever the model's size.
//
// Pure functions on values.
#ifndef PENSTOCK_CORE_LAYOUT_NORM_PLAN_H_
#define PENSTOCK_CORE_LAYOUT_NORM_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"

namespace penstock {

// Elements of a piece that one rank owns.
struct NormFragment {
  int rank = 0;
  ElementRange range;

  friend bool operator==(const NormFragment&, const NormFragment&) = default;
};

// A piece and its owners, in canonical order.
struct NormPiece {
  ElementRange range;
  // The rank that sums it: the one that owns most of it, of equals the lowest.
  int home = 0;
  std::vector<NormFragment> fragments;

  // One rank owns all of it.
  bool whole() const { return fragments.size() == 1; }
};

// All pieces of a space of `elements`, in order. owned[r] lists what rank r owns. INVALID_ARGUMENT, naming the element,
// when one has no owner or two.
absl::StatusOr<std::vector<NormPiece>> PlanNorm(int64_t elements, std::span<const std::vector<ElementRange>> owned);

// Whether rank `rank`, which owns `owned`, has to put some piece together: a piece at home there that isn't within one
// of its ranges.
bool AssemblesPieces(std::span<const NormPiece> pieces, int rank, std::span<const ElementRange> owned);

}  // namespace penstock

#endif  // PENSTOCK_CORE_LAYOUT_NORM_PLAN_H_
