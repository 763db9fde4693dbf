// Ranges of the canonical space with their memory (StateClient's), cut into runs of bounded size, for what goes through
// a buffer.
#ifndef PENSTOCK_WORKER_RUNTIME_RANGE_RUNS_H_
#define PENSTOCK_WORKER_RUNTIME_RANGE_RUNS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "worker/runtime/state_client.h"

namespace penstock {

inline constexpr int64_t kElementBytesMax = sizeof(float);

inline int64_t ElementBytes(const GradientRange&) { return kElementBytesMax; }
inline int64_t ElementBytes(const WeightRange& range) {
  return range.rounded != nullptr ? static_cast<int64_t>(sizeof(Bfloat16)) : kElementBytesMax;
}

inline const void* AddressOf(const GradientRange& range) { return range.data; }
inline void* AddressOf(const WeightRange& range) {
  return range.rounded != nullptr ? static_cast<void*>(range.rounded) : static_cast<void*>(range.data);
}
inline void SetAddress(const std::byte* at, GradientRange* range) { range->data = reinterpret_cast<const float*>(at); }
inline void SetAddress(std::byte* at, WeightRange* range) {
  if (range->rounded != nullptr) {
    range->rounded = reinterpret_cast<Bfloat16*>(at);
  } else {
    range->data = reinterpret_cast<float*>(at);
  }
}

template <typename Range>
int64_t BytesOf(const Range& range) {
  return range.range.size() * ElementBytes(range);
}

// Elements [begin, begin + count) of a range.
template <typename Range>
Range PartOf(const Range& range, int64_t begin, int64_t count) {
  Range part = range;
  part.range = {range.range.begin + begin, range.range.begin + begin + count};
  if constexpr (std::is_same_v<Range, GradientRange>) {
    part.data = range.data + begin;
  } else if (range.rounded != nullptr) {
    part.rounded = range.rounded + begin;
  } else {
    part.data = range.data + begin;
  }
  return part;
}

// Cut into runs of at most `bytes_max`, in order.
template <typename Range>
std::vector<std::vector<Range>> RunsOf(std::span<const Range> ranges, int64_t bytes_max) {
  std::vector<std::vector<Range>> runs;
  int64_t room = 0;
  for (const Range& range : ranges) {
    for (int64_t begin = 0; begin < range.range.size();) {
      if (room < ElementBytes(range)) {
        runs.emplace_back();
        room = bytes_max;
      }
      const int64_t count = std::min(range.range.size() - begin, room / ElementBytes(range));
      runs.back().push_back(PartOf(range, begin, count));
      room -= count * ElementBytes(range);
      begin += count;
    }
  }
  return runs;
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_RANGE_RUNS_H_
