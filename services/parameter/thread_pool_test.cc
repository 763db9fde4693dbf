#include "services/parameter/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace penstock {
namespace {

TEST(ThreadPoolTest, EveryTurnIsTakenOnce) {
  for (const int threads : {0, 1, 4}) {
    ThreadPool pool(threads);
    for (const int64_t count : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> taken(count);
      pool.ParallelFor(count, [&](int64_t i) { ++taken[i]; });
      for (int64_t i = 0; i < count; ++i) EXPECT_EQ(taken[i], 1);
    }
  }
}

TEST(ThreadPoolTest, LoopsInLoopsAndFromManyThreads) {
  ThreadPool pool(3);
  std::atomic<int> turns{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back(
        [&] { pool.ParallelFor(10, [&](int64_t) { pool.ParallelFor(10, [&](int64_t) { ++turns; }); }); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(turns, 400);
}

TEST(ThreadPoolTest, ALoopGoesOnWhileAllThreadsAreBusy) {
  ThreadPool pool(1);
  std::promise<void> release;
  ASSERT_TRUE(pool.Post([future = release.get_future().share()] { future.wait(); }));
  int turns = 0;
  pool.ParallelFor(5, [&](int64_t) { ++turns; });  // all on this thread
  EXPECT_EQ(turns, 5);
  release.set_value();
}

TEST(ThreadPoolTest, RefusesMoreTasksThanItsLimit) {
  std::atomic<int> done{0};
  {
    ThreadPool pool(1, 2);
    std::promise<void> started;
    std::promise<void> release;
    ASSERT_TRUE(pool.Post([&, future = release.get_future().share()] {
      started.set_value();
      future.wait();
      ++done;
    }));
    started.get_future().wait();
    EXPECT_TRUE(pool.Post([&] { ++done; }));
    EXPECT_TRUE(pool.Post([&] { ++done; }));
    EXPECT_FALSE(pool.Post([&] { ++done; }));
    release.set_value();
  }
  EXPECT_EQ(done, 3);  // the destructor finishes what was queued
}

}  // namespace
}  // namespace penstock
