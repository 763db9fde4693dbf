// How long to wait before asking again: doubling from `min` to `max`. No jitter: core has no randomness of its own, and
// a job has one asker.
#pragma once

#include <algorithm>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace penstock {

struct BackoffOptions {
  absl::Duration min = absl::Milliseconds(50);
  absl::Duration max = absl::Seconds(2);
};

class Backoff {
 public:
  explicit Backoff(BackoffOptions options = {}) : options_(options), next_(options.min) {}

  // The wait before the next attempt; twice as long each time.
  absl::Duration Next() {
    const absl::Duration wait = next_;
    next_ = std::min(next_ * 2, options_.max);
    return wait;
  }
  void Reset() { next_ = options_.min; }

 private:
  BackoffOptions options_;
  absl::Duration next_;
};

// Whether an RPC that failed like this is asked again: the other side may or may not have done it, and everything that
// is asked again is idempotent.
inline bool IsTransient(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

}  // namespace penstock
