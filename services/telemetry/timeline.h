// A timeline: the instructions that a rank executed last, with their times, in a ring of fixed size.
//
// Thread-safe; recording takes a mutex for a few stores and never allocates after construction.
#ifndef PENSTOCK_SERVICES_TELEMETRY_TIMELINE_H_
#define PENSTOCK_SERVICES_TELEMETRY_TIMELINE_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "core/schedule/instruction.h"

namespace penstock {

struct TimelineEntry {
  uint64_t epoch = 0;
  uint64_t step = 0;
  Instruction instruction;
  // True for a validation's pass over the version `step`.
  bool validation = false;
  // Of the process's monotonic clock.
  absl::Time begin;
  absl::Time end;
};

class Timeline {
 public:
  // Enough for some hundred steps of a deep pipeline.
  static constexpr size_t kEntriesDefault = 16384;

  explicit Timeline(size_t entries_max = kEntriesDefault) : entries_max_(entries_max) { entries_.reserve(entries_max); }

  // Replaces the oldest entry when the ring is full.
  void Record(const TimelineEntry& entry) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (entries_.size() < entries_max_) {
      entries_.push_back(entry);
    } else {
      entries_[next_] = entry;
    }
    next_ = (next_ + 1) % entries_max_;
  }

  // What the ring holds, oldest first.
  std::vector<TimelineEntry> Entries() const {
    std::lock_guard<std::mutex> lock(mutex_);
    if (entries_.size() < entries_max_) return entries_;
    std::vector<TimelineEntry> ordered(entries_.begin() + static_cast<std::ptrdiff_t>(next_), entries_.end());
    ordered.insert(ordered.end(), entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(next_));
    return ordered;
  }

 private:
  const size_t entries_max_;
  mutable std::mutex mutex_;
  std::vector<TimelineEntry> entries_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_TELEMETRY_TIMELINE_H_
