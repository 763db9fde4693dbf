// A fixed number of threads: tasks in the order they come, and loops whose turns run side by side.
//
// Thread-safe. The destructor finishes what was queued.
#ifndef PENSTOCK_SERVICES_PARAMETER_THREAD_POOL_H_
#define PENSTOCK_SERVICES_PARAMETER_THREAD_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"

namespace penstock {

class ThreadPool {
 public:
  // `threads` may be 0: then ParallelFor runs on its caller alone, and Post must not be used.
  explicit ThreadPool(int threads, size_t tasks_max = 65536);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs `task` some time. False, and nothing happens, when `tasks_max` tasks wait already.
  bool Post(std::function<void()> task);

  // Calls turn(0) .. turn(count - 1), each once, on the caller's thread and the pool's as they are free, and returns
  // when all have returned. Which thread runs which turn is left open, so a result must not depend on it.
  void ParallelFor(int64_t count, const std::function<void(int64_t)>& turn);

  int threads() const { return static_cast<int>(threads_.size()); }

 private:
  void Run();

  const size_t tasks_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_THREAD_POOL_H_
