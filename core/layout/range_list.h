// Ranges of the canonical space one after the other, as a rank's memory holds them: element i of the memory is the i-th
// element of the list. A pipeline stage without tensor parallelism has one range; a tensor shard has many.
//
// A value; safe to read from any thread.
#ifndef PENSTOCK_CORE_LAYOUT_RANGE_LIST_H_
#define PENSTOCK_CORE_LAYOUT_RANGE_LIST_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/layout/range.h"

namespace penstock {

class RangeList {
 public:
  // One range of the list and the memory's element at which it begins.
  struct Placed {
    ElementRange range;
    int64_t offset = 0;
  };

  RangeList() = default;
  RangeList(const ElementRange& range) { Add(range); }  // NOLINT: a range is a list of one

  // Behind all others. Empty ranges are dropped, and one that begins where the last one ends extends it. Ranges may
  // come in any order, but no element twice.
  void Add(const ElementRange& range);
  void Add(const RangeList& ranges);

  // Number of elements.
  int64_t size() const { return placed_.empty() ? 0 : placed_.back().offset + placed_.back().range.size(); }
  bool empty() const { return placed_.empty(); }
  std::span<const Placed> placed() const { return placed_; }
  std::vector<ElementRange> ranges() const;

  // What elements [memory.begin, memory.end) of the memory hold; they lie within [0, size()).
  RangeList Slice(const ElementRange& memory) const;
  // The memory's element that holds range.begin; nothing unless one of the ranges contains all of `range`, which isn't
  // empty.
  std::optional<int64_t> OffsetOf(const ElementRange& range) const;

  friend bool operator==(const RangeList& a, const RangeList& b) { return a.ranges() == b.ranges(); }

 private:
  // Ordered by offset.
  std::vector<Placed> placed_;
};

}  // namespace penstock

#endif  // PENSTOCK_CORE_LAYOUT_RANGE_LIST_H_
