// Threads for what waits for the disk: checkpoints' folders and manifests, reading the store. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_JOBS_WORK_POOL_H_
#define PENSTOCK_COORDINATOR_JOBS_WORK_POOL_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"

namespace penstock {

inline constexpr int kWorkThreads = 2;

class WorkPool {
 public:
  // Without threads a task runs at once, on the caller's: for tests.
  explicit WorkPool(int threads = kWorkThreads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  // Drops what hasn't begun.
  ~WorkPool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;

  // Each job has at most a few tasks under way, so jobs bound the queue.
  void Run(std::function<void()> task) {
    if (threads_.empty()) {
      task();
      return;
    }
    {
      std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::vector<std::thread> threads_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_WORK_POOL_H_
