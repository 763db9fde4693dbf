#include "coordinator/jobs/event_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "services/base/fake_clock.h"

namespace penstock {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

TEST(EventLoopTest, TasksRunInOrderOnOneThread) {
  EventLoop loop(Clock::Real());
  std::vector<int> order;
  std::promise<std::thread::id> last;
  std::thread::id first;
  loop.Post([&] { first = std::this_thread::get_id(); });
  for (int i = 0; i < 100; ++i) loop.Post([&order, i] { order.push_back(i); });
  loop.Post([&] { last.set_value(std::this_thread::get_id()); });
  auto done = last.get_future();
  ASSERT_EQ(done.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(done.get(), first);
  EXPECT_NE(first, std::this_thread::get_id());
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(EventLoopTest, TimersRunByTheirTimeAndTasksFirst) {
  FakeClock clock;
  EventLoop loop(&clock);
  std::vector<std::string> order;
  std::promise<void> done;
  const absl::Time now = clock.Monotonic();
  // Set up in one task, so that all is there when the loop looks.
  loop.Post([&] {
    loop.PostAt(now + absl::Seconds(2), [&] { order.push_back("second"); });
    loop.PostAt(now + absl::Seconds(1), [&] { order.push_back("first"); });
    loop.PostAt(now + absl::Seconds(3), [&] { done.set_value(); });
    loop.PostAt(absl::InfiniteFuture(), [&] { order.push_back("never"); });
    clock.Advance(absl::Seconds(5));
    loop.Post([&] { order.push_back("task"); });
  });
  ASSERT_EQ(done.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(order, (std::vector<std::string>{"task", "first", "second"}));
}

TEST(EventLoopTest, ALoopThatIsBehindRefusesWhatCanComeAgain) {
  EventLoop loop(Clock::Real());
  std::promise<void> begun, go_on;
  loop.Post([&] {
    begun.set_value();
    go_on.get_future().wait();
  });
  begun.get_future().wait();
  for (size_t i = 0; i < kLoopTasksMax; ++i) ASSERT_TRUE(loop.TryPost([] {}));
  EXPECT_FALSE(loop.TryPost([] {}));
  std::promise<void> answered;
  loop.Post([&] { answered.set_value(); });
  go_on.set_value();
  EXPECT_EQ(answered.get_future().wait_for(kPatience), std::future_status::ready) << "an answer is always taken";
}

TEST(EventLoopTest, AfterStopNothingRuns) {
  EventLoop loop(Clock::Real());
  loop.Stop();
  bool ran = false;
  loop.Post([&ran] { ran = true; });
  EXPECT_FALSE(loop.TryPost([&ran] { ran = true; }));
  loop.PostAt(absl::InfinitePast(), [&ran] { ran = true; });
  loop.Stop();
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace penstock
