// The simulation's clock and its queue of future events. Events of the same time run in the order in which they were
// added.
//
// Not thread-safe: a simulation is one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace penstock::simulation {

class Scheduler {
 public:
  absl::Time now() const { return now_; }
  uint64_t events_run() const { return events_run_; }

  void At(absl::Time time, std::function<void()> run) {
    events_.push(Event{time < now_ ? now_ : time, next_sequence_++, std::move(run)});
  }
  void After(absl::Duration delay, std::function<void()> run) { At(now_ + delay, std::move(run)); }

  // Runs the next event; false when there is none.
  bool RunNext() {
    if (events_.empty()) return false;
    // The queue gives a const reference only; the event leaves it before it runs, as it may add others.
    Event event = std::move(const_cast<Event&>(events_.top()));
    events_.pop();
    now_ = event.time;
    ++events_run_;
    event.run();
    return true;
  }

 private:
  struct Event {
    absl::Time time;
    uint64_t sequence;
    std::function<void()> run;

    friend bool operator<(const Event& a, const Event& b) {
      return a.time != b.time ? a.time > b.time : a.sequence > b.sequence;
    }
  };

  absl::Time now_ = absl::FromUnixSeconds(0);
  uint64_t next_sequence_ = 0;
  uint64_t events_run_ = 0;
  std::priority_queue<Event> events_;
};

}  // namespace penstock::simulation
