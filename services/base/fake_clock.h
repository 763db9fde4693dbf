// A clock that stands still until a test moves it. Thread-safe.
#ifndef PENSTOCK_SERVICES_BASE_FAKE_CLOCK_H_
#define PENSTOCK_SERVICES_BASE_FAKE_CLOCK_H_

#include <mutex>

#include "absl/base/thread_annotations.h"
#include "services/base/clock.h"

namespace penstock {

class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now = absl::FromUnixSeconds(1'700'000'000)) : now_(now) {}

  absl::Time Now() const override {
    std::lock_guard lock(mutex_);
    return now_;
  }
  // Starts at another time than Now(), so that code which mixes the two shows.
  absl::Time Monotonic() const override {
    std::lock_guard lock(mutex_);
    return monotonic_;
  }

  // Lets time pass. `by` isn't negative.
  void Advance(absl::Duration by) {
    std::lock_guard lock(mutex_);
    now_ += by;
    monotonic_ += by;
  }
  // Sets the wall clock alone, as an operator or NTP would.
  void SetNow(absl::Time now) {
    std::lock_guard lock(mutex_);
    now_ = now;
  }

 private:
  mutable std::mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
  absl::Time monotonic_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1000);
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_FAKE_CLOCK_H_
