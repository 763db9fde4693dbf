// The time, passed in: only services/base reads the machine's clocks. The fake one is in fake_clock.h.
//
// Now() is for people and files; it may jump. Leases, time-outs and durations are measured with Monotonic(), which
// never goes back and says nothing about the date.
//
// Thread-safe.
#ifndef PENSTOCK_SERVICES_BASE_CLOCK_H_
#define PENSTOCK_SERVICES_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace penstock {

class Clock {
 public:
  virtual ~Clock() = default;

  // The wall clock.
  virtual absl::Time Now() const = 0;
  // A clock that only goes forward, on an axis of its own: as an absl::Time, so that pure code which takes times as
  // arguments takes either. Compare it with other values of the same clock only.
  virtual absl::Time Monotonic() const = 0;

  // The machine's clocks. Never destroyed.
  static const Clock* Real();
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_CLOCK_H_
