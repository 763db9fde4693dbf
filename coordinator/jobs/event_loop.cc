#include "coordinator/jobs/event_loop.h"

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

// The clock may be another one than the condition variable's, so a far timer is looked at again now and then.
constexpr absl::Duration kSleepMax = absl::Seconds(1);

}  // namespace

EventLoop::EventLoop(const Clock* clock) : clock_(clock), thread_([this] { Run(); }) {}

EventLoop::~EventLoop() { Stop(); }

void EventLoop::Post(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
}

bool EventLoop::TryPost(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || tasks_.size() >= kLoopTasksMax) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void EventLoop::PostAt(absl::Time time, std::function<void()> task) {
  if (time == absl::InfiniteFuture()) return;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    timers_.emplace(time, std::move(task));
  }
  changed_.notify_one();
}

void EventLoop::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
  std::lock_guard lock(mutex_);
  tasks_.clear();
  timers_.clear();
}

void EventLoop::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    // Tasks before timers: a heartbeat that has arrived counts before the lease is looked at.
    if (!tasks_.empty()) {
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
      continue;
    }
    const absl::Time now = clock_->Monotonic();
    if (!timers_.empty() && timers_.begin()->first <= now) {
      const std::function<void()> task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      lock.unlock();
      task();
      lock.lock();
      continue;
    }
    absl::Duration sleep = kSleepMax;
    if (!timers_.empty()) sleep = std::min(sleep, timers_.begin()->first - now);
    changed_.wait_for(lock, absl::ToChronoNanoseconds(sleep));
  }
}

}  // namespace penstock
