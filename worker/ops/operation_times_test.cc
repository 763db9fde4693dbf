// What is measured of calls, and that the calls are the operations' own.
#include "worker/ops/operation_times.h"

#include <map>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/base/clock.h"
#include "worker/ops/call_times.h"
#include "worker/ops/cpu/cpu_backend.h"

namespace penstock {
namespace {

struct Total {
  int calls = 0;
  OperationCall sum;
};

class OperationTimesTest : public testing::Test {
 protected:
  OperationMeters Meters() {
    return [this](const std::string& name) -> OperationMeter {
      return [this, name](const OperationCall& call) {
        Total& total = totals_[name];
        ++total.calls;
        total.sum.seconds += call.seconds;
        total.sum.flops += call.flops;
        total.sum.bytes += call.bytes;
      };
    };
  }

  std::map<std::string, Total> totals_;
};

TEST_F(OperationTimesTest, AProductIsCountedAndComputed) {
  const auto backend = MeasureOperations(CreateCpuBackend({.threads = 1}).value(), Meters());
  const auto linear = backend->CreateLinear({.rows = 2, .in = 3, .out = 1, .has_bias = true}).value();
  std::vector<std::byte> workspace(static_cast<size_t>(linear->workspace_bytes()) + 64);
  const OpContext context = {.workspace = workspace.data(), .workspace_bytes = linear->workspace_bytes()};
  const std::vector<float> x = {1, 2, 3, 4, 5, 6}, weight = {1, 0, 2}, bias = {10};
  std::vector<float> y(2);
  const absl::Time begin = Clock::Real()->Monotonic();
  ASSERT_TRUE(linear->Forward(context, x.data(), weight.data(), bias.data(), y.data()).ok());
  const double most = absl::ToDoubleSeconds(Clock::Real()->Monotonic() - begin);
  EXPECT_EQ(y, (std::vector<float>{17, 26}));
  ASSERT_EQ(totals_.size(), 1u);
  const Total& total = totals_.at("linear 3x1 forward");
  EXPECT_EQ(total.calls, 1);
  EXPECT_EQ(total.sum.flops, 12);
  EXPECT_EQ(total.sum.bytes, 4 * (6 + 3 + 2));
  EXPECT_GT(total.sum.seconds, 0);
  EXPECT_LE(total.sum.seconds, most);
}

TEST_F(OperationTimesTest, OnlyTheOwnersCallsOnItsStreamCount) {
  const auto backend = MeasureOperations(CreateCpuBackend({.threads = 1}).value(), Meters());
  std::vector<float> from = {1, 2}, to(2);
  std::thread other([&] { EXPECT_TRUE(backend->Copy({}, from.data(), to.data(), 8).ok()); });
  other.join();
  EXPECT_EQ(to, from);
  int stream = 0;
  EXPECT_TRUE(backend->Copy({.stream = &stream}, from.data(), to.data(), 8).ok());
  EXPECT_TRUE(totals_.empty());
  EXPECT_TRUE(backend->Copy({}, from.data(), to.data(), 8).ok());
  EXPECT_EQ(totals_.at("copy").sum.bytes, 16);
}

// A stream that says when each mark is passed, some of them later and some never.
class FakeClock : public StreamClock {
 public:
  bool Mark() override {
    if (refuse) return false;
    ++marks;
    return true;
  }
  void Take(std::vector<absl::Time>* times) override { times->swap(passed); }

  bool refuse = false;
  int marks = 0;
  std::vector<absl::Time> passed;
};

absl::Time At(double seconds) { return absl::FromUnixMicros(0) + absl::Seconds(seconds); }

TEST_F(OperationTimesTest, ADevicesCallsAreKnownLater) {
  auto owned = std::make_unique<FakeClock>();
  FakeClock* const clock = owned.get();
  const auto nothing = [] { return absl::OkStatus(); };
  {
    CallTimes times(std::move(owned), Meters());
    const SharedMeter a = times.MeterOf("a"), b = times.MeterOf("b");
    EXPECT_TRUE(times.Run({}, a, 1, 2, nothing).ok());
    EXPECT_TRUE(times.Run({}, b, 0, 5, nothing).ok());
    EXPECT_EQ(clock->marks, 4);
    EXPECT_TRUE(totals_.empty());
    clock->passed = {At(1), At(3), At(4)};
    // What isn't marked isn't counted, but what was passed by now is.
    clock->refuse = true;
    EXPECT_EQ(times.Run({}, b, 0, 5, [] { return absl::InternalError("as it was"); }),
              absl::InternalError("as it was"));
    clock->refuse = false;
    EXPECT_EQ(totals_.at("a").sum.seconds, 2);
    EXPECT_EQ(totals_.count("b"), 0u);
    clock->passed = {At(4.5)};
  }
  EXPECT_EQ(totals_.at("b").sum.seconds, 0.5);
  EXPECT_EQ(totals_.at("b").calls, 1);
}

}  // namespace
}  // namespace penstock
