// Ranges of the canonical space, and sets of them.
//
// Plain values; a RangeSet is not synchronised.
#ifndef PENSTOCK_CORE_LAYOUT_RANGE_H_
#define PENSTOCK_CORE_LAYOUT_RANGE_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace penstock {

// Canonical elements [begin, end). Empty when end <= begin.
struct ElementRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end > begin ? end - begin : 0; }
  bool empty() const { return end <= begin; }
  bool Contains(int64_t element) const { return element >= begin && element < end; }
  // An empty range is inside of every range.
  bool Contains(const ElementRange& other) const { return other.empty() || (other.begin >= begin && other.end <= end); }
  // "[0, 65536)".
  std::string ToString() const;

  friend bool operator==(const ElementRange&, const ElementRange&) = default;
};

// What a and b have in common; {0, 0} when that is nothing.
ElementRange Intersect(const ElementRange& a, const ElementRange& b);

// `range` cut at every multiple of `unit` (of the space, not of the range's begin); no empty parts. unit > 0.
std::vector<ElementRange> SplitAtMultiples(const ElementRange& range, int64_t unit);

// `range` in consecutive parts of at most `elements_max` elements; no empty parts. elements_max > 0.
std::vector<ElementRange> SplitBySize(const ElementRange& range, int64_t elements_max);

// Sorted, with touching and overlapping ranges merged and empty ones dropped.
std::vector<ElementRange> Merge(std::span<const ElementRange> ranges);

// Sum of the sizes.
int64_t TotalSize(std::span<const ElementRange> ranges);

// A set of elements, kept as disjoint ranges that don't touch. Logarithmic in the number of those.
class RangeSet {
 public:
  // Adds the elements; returns how many were not in the set before.
  int64_t Add(const ElementRange& range);
  void Clear();

  // True when every element of `range` is in the set.
  bool Covers(const ElementRange& range) const;
  // True when some element of `range` is in the set.
  bool Overlaps(const ElementRange& range) const;
  // What of `within` is not in the set, in order.
  std::vector<ElementRange> Missing(const ElementRange& within) const;

  std::vector<ElementRange> ranges() const;
  // Number of elements.
  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  std::map<int64_t, int64_t> end_by_begin_;
  int64_t size_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_CORE_LAYOUT_RANGE_H_
