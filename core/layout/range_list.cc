#include "core/layout/range_list.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace penstock {

void RangeList::Add(const ElementRange& range) {
  if (range.empty()) return;
  if (!placed_.empty() && placed_.back().range.end == range.begin) {
    placed_.back().range.end = range.end;
    return;
  }
  placed_.push_back({range, size()});
}

void RangeList::Add(const RangeList& ranges) {
  for (const Placed& placed : ranges.placed_) Add(placed.range);
}

std::vector<ElementRange> RangeList::ranges() const {
  std::vector<ElementRange> ranges;
  for (const Placed& placed : placed_) ranges.push_back(placed.range);
  return ranges;
}

RangeList RangeList::Slice(const ElementRange& memory) const {
  PENSTOCK_CHECK((ElementRange{0, size()}).Contains(memory));
  RangeList slice;
  for (const Placed& placed : placed_) {
    const ElementRange within =
        Intersect(memory, {placed.offset, placed.offset + placed.range.size()});  // in elements of the memory
    const int64_t shift = placed.range.begin - placed.offset;
    slice.Add({within.begin + shift, within.begin + shift + within.size()});
  }
  return slice;
}

std::optional<int64_t> RangeList::OffsetOf(const ElementRange& range) const {
  const auto found = std::find_if(placed_.begin(), placed_.end(),
                                  [&](const Placed& placed) { return !range.empty() && placed.range.Contains(range); });
  if (found == placed_.end()) return std::nullopt;
  return found->offset + range.begin - found->range.begin;
}

}  // namespace penstock
