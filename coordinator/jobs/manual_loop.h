// A Loop that a test turns by hand, on a FakeClock. Not thread-safe but for the posting.
#ifndef PENSTOCK_COORDINATOR_JOBS_MANUAL_LOOP_H_
#define PENSTOCK_COORDINATOR_JOBS_MANUAL_LOOP_H_

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "coordinator/jobs/event_loop.h"
#include "services/base/fake_clock.h"

namespace penstock {

class ManualLoop final : public Loop {
 public:
  explicit ManualLoop(FakeClock* clock) : clock_(clock) {}

  void Post(std::function<void()> task) override {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  bool TryPost(std::function<void()> task) override {
    Post(std::move(task));
    return true;
  }
  void PostAt(absl::Time time, std::function<void()> task) override {
    std::lock_guard lock(mutex_);
    if (time != absl::InfiniteFuture()) timers_.emplace(time, std::move(task));
  }

  // Runs what there is to run now.
  void RunAll() {
    while (true) {
      std::function<void()> task = Next();
      if (!task) return;
      task();
    }
  }
  // Lets time pass, timer by timer.
  void Advance(absl::Duration by) {
    const absl::Time end = clock_->Monotonic() + by;
    RunAll();
    while (true) {
      absl::Time next;
      {
        std::lock_guard lock(mutex_);
        next = timers_.empty() ? absl::InfiniteFuture() : timers_.begin()->first;
      }
      if (next > end) break;
      if (next > clock_->Monotonic()) clock_->Advance(next - clock_->Monotonic());
      RunAll();
    }
    if (clock_->Monotonic() < end) clock_->Advance(end - clock_->Monotonic());
    RunAll();
  }

 private:
  std::function<void()> Next() {
    std::lock_guard lock(mutex_);
    std::function<void()> task;
    if (!tasks_.empty()) {
      task = std::move(tasks_.front());
      tasks_.pop_front();
    } else if (!timers_.empty() && timers_.begin()->first <= clock_->Monotonic()) {
      task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
    }
    return task;
  }

  FakeClock* const clock_;
  std::mutex mutex_;
  std::deque<std::function<void()>> tasks_;
  std::multimap<absl::Time, std::function<void()>> timers_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_MANUAL_LOOP_H_
