// Where the scheduler lives: one thread that runs tasks one by one, so that what it owns needs no lock.
//
// Loop is what the scheduler sees; EventLoop the real one. Tests drive a ManualLoop (manual_loop.h). Tasks are quick:
// what waits (store, disk, shards) runs elsewhere and posts its answer.
//
// Thread-safe.
#ifndef PENSTOCK_COORDINATOR_JOBS_EVENT_LOOP_H_
#define PENSTOCK_COORDINATOR_JOBS_EVENT_LOOP_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "services/base/clock.h"

namespace penstock {

// Tasks that wait. What members and clients send is refused above it (TryPost); answers to the loop's own actions, of
// which there are only so many under way, are always taken.
inline constexpr size_t kLoopTasksMax = 65536;

class Loop {
 public:
  virtual ~Loop() = default;
  virtual void Post(std::function<void()> task) = 0;
  // False, and the task is dropped, when the loop is behind.
  virtual bool TryPost(std::function<void()> task) = 0;
  // Runs it when the monotonic clock shows `time`, or soon after.
  virtual void PostAt(absl::Time time, std::function<void()> task) = 0;
};

class EventLoop final : public Loop {
 public:
  explicit EventLoop(const Clock* clock);
  // Stops.
  ~EventLoop() override;

  void Post(std::function<void()> task) override;
  bool TryPost(std::function<void()> task) override;
  void PostAt(absl::Time time, std::function<void()> task) override;
  // Ends the thread after the task under way; what waits is dropped. Not to be called from a task.
  void Stop();

 private:
  void Run();

  const Clock* const clock_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Time, std::function<void()>> timers_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_EVENT_LOOP_H_
