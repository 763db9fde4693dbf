#include "core/layout/range.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace penstock {

std::string ElementRange::ToString() const { return absl::StrCat("[", begin, ", ", end, ")"); }

ElementRange Intersect(const ElementRange& a, const ElementRange& b) {
  const ElementRange both{std::max(a.begin, b.begin), std::min(a.end, b.end)};
  return both.empty() ? ElementRange{} : both;
}

std::vector<ElementRange> SplitAtMultiples(const ElementRange& range, int64_t unit) {
  std::vector<ElementRange> parts;
  for (int64_t begin = range.begin; begin < range.end;) {
    const int64_t end = std::min((begin / unit + 1) * unit, range.end);
    parts.push_back({begin, end});
    begin = end;
  }
  return parts;
}

std::vector<ElementRange> SplitBySize(const ElementRange& range, int64_t elements_max) {
  std::vector<ElementRange> parts;
  for (int64_t begin = range.begin; begin < range.end;) {
    const int64_t end = range.end - begin > elements_max ? begin + elements_max : range.end;
    parts.push_back({begin, end});
    begin = end;
  }
  return parts;
}

std::vector<ElementRange> Merge(std::span<const ElementRange> ranges) {
  RangeSet set;
  for (const ElementRange& range : ranges) set.Add(range);
  return set.ranges();
}

int64_t TotalSize(std::span<const ElementRange> ranges) {
  int64_t total = 0;
  for (const ElementRange& range : ranges) total += range.size();
  return total;
}

int64_t RangeSet::Add(const ElementRange& range) {
  if (range.empty()) return 0;
  int64_t begin = range.begin;
  int64_t end = range.end;
  int64_t absorbed = 0;
  // First interval that ends at or after our begin: the one before upper_bound, where it reaches that far.
  auto it = end_by_begin_.upper_bound(begin);
  if (it != end_by_begin_.begin() && std::prev(it)->second >= begin) --it;
  while (it != end_by_begin_.end() && it->first <= end) {
    begin = std::min(begin, it->first);
    end = std::max(end, it->second);
    absorbed += it->second - it->first;
    it = end_by_begin_.erase(it);
  }
  end_by_begin_.emplace_hint(it, begin, end);
  const int64_t added = end - begin - absorbed;
  size_ += added;
  return added;
}

void RangeSet::Clear() {
  end_by_begin_.clear();
  size_ = 0;
}

bool RangeSet::Covers(const ElementRange& range) const {
  if (range.empty()) return true;
  auto it = end_by_begin_.upper_bound(range.begin);
  return it != end_by_begin_.begin() && std::prev(it)->second >= range.end;
}

bool RangeSet::Overlaps(const ElementRange& range) const {
  if (range.empty()) return false;
  // The last interval that begins before our end is the only one that can reach furthest.
  auto it = end_by_begin_.lower_bound(range.end);
  return it != end_by_begin_.begin() && std::prev(it)->second > range.begin;
}

std::vector<ElementRange> RangeSet::Missing(const ElementRange& within) const {
  std::vector<ElementRange> missing;
  int64_t next = within.begin;
  auto it = end_by_begin_.upper_bound(next);
  if (it != end_by_begin_.begin()) --it;
  for (; it != end_by_begin_.end() && it->first < within.end && next < within.end; ++it) {
    if (it->second <= next) continue;
    if (it->first > next) missing.push_back({next, it->first});
    next = it->second;
  }
  if (next < within.end) missing.push_back({next, within.end});
  return missing;
}

std::vector<ElementRange> RangeSet::ranges() const {
  std::vector<ElementRange> ranges;
  ranges.reserve(end_by_begin_.size());
  for (const auto& [begin, end] : end_by_begin_) ranges.push_back({begin, end});
  return ranges;
}

}  // namespace penstock
