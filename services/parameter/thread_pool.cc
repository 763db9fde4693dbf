#include "services/parameter/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "core/base/status_macros.h"

namespace penstock {

ThreadPool::ThreadPool(int threads, size_t tasks_max) : tasks_max_(tasks_max) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool ThreadPool::Post(std::function<void()> task) {
  PENSTOCK_CHECK(!threads_.empty());
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_ || tasks_.size() >= tasks_max_) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void ThreadPool::Run() {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

namespace {

// One loop under way. Helpers that come when all turns are taken find nothing to do, so it is shared with them; `turn`
// lives until the last turn is done.
struct Loop {
  int64_t count = 0;
  const std::function<void(int64_t)>* turn = nullptr;
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::condition_variable all_done;
  int64_t done = 0;

  void TakeTurns() {
    int64_t mine = 0;
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      (*turn)(i);
      ++mine;
    }
    if (mine == 0) return;
    std::lock_guard<std::mutex> lock(mutex);
    done += mine;
    if (done == count) all_done.notify_all();
  }
};

}  // namespace

void ThreadPool::ParallelFor(int64_t count, const std::function<void(int64_t)>& turn) {
  if (count <= 0) return;
  auto loop = std::make_shared<Loop>();
  loop->count = count;
  loop->turn = &turn;
  const int64_t helpers = std::min<int64_t>(threads_.size(), count - 1);
  for (int64_t i = 0; i < helpers; ++i) {
    if (!Post([loop] { loop->TakeTurns(); })) break;
  }
  loop->TakeTurns();
  std::unique_lock<std::mutex> lock(loop->mutex);
  loop->all_done.wait(lock, [&] { return loop->done == loop->count; });
}

}  // namespace penstock
