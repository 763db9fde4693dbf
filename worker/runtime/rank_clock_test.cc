#include "worker/runtime/rank_clock.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>

namespace penstock {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// A device whose marks are passed when the test says so.
class FakeStreamClock : public StreamClock {
 public:
  bool Mark() override {
    if (refuses) return false;
    ++marks;
    return true;
  }
  void Take(std::vector<absl::Time>* times) override {
    times->insert(times->end(), passed.begin(), passed.end());
    passed.clear();
  }

  int marks = 0;
  bool refuses = false;
  std::vector<absl::Time> passed;
};

class RankClockTest : public testing::Test {
 protected:
  RankClockTest() {
    auto stream = std::make_unique<FakeStreamClock>();
    stream_ = stream.get();
    clock_.Bind(std::move(stream));
  }
  double seconds(Activity activity) const { return clock_.seconds(activity); }

  FakeStreamClock* stream_;
  RankClock clock_;
};

TEST_F(RankClockTest, TimeIsTheDevicesAndKnownWhenItHasPassed) {
  { RankClock::Scope waiting(clock_, Activity::kWaitActivation); }
  {
    RankClock::Scope computing(clock_, Activity::kCompute);
    RankClock::Scope summing(clock_, Activity::kTensor);
  }
  ASSERT_EQ(stream_->marks, 6);
  clock_.Resolve();
  EXPECT_EQ(seconds(Activity::kWaitActivation), 0);
  // A message comes after two seconds, a sum takes three of five, one of them is still under way.
  stream_->passed = {At(10), At(12), At(12.5), At(14)};
  clock_.Resolve();
  EXPECT_DOUBLE_EQ(seconds(Activity::kWaitActivation), 2);
  EXPECT_DOUBLE_EQ(seconds(Activity::kCompute), 1.5);
  EXPECT_DOUBLE_EQ(seconds(Activity::kTensor), 0);
  EXPECT_DOUBLE_EQ(clock_.BubbleRatio(8), 0.25);
  clock_.Reset();
  stream_->passed = {At(17), At(17.5)};
  clock_.Resolve();
  EXPECT_DOUBLE_EQ(seconds(Activity::kTensor), 3);
  EXPECT_DOUBLE_EQ(seconds(Activity::kCompute), 0.5);
  EXPECT_DOUBLE_EQ(seconds(Activity::kWaitActivation), 0);
}

TEST_F(RankClockTest, InstructionsGoToTheTimelineWithTheDevicesTimes) {
  Timeline timeline;
  const Instruction forward{.op = Op::kForward, .micro_batch = 3};
  clock_.BeginInstruction({.epoch = 7, .step = 2, .instruction = forward, .validation = false, .begin = {}, .end = {}},
                          &timeline);
  { RankClock::Scope computing(clock_, Activity::kCompute); }
  clock_.EndInstruction(&timeline);
  stream_->passed = {At(1), At(2), At(4)};
  clock_.Resolve();
  EXPECT_TRUE(timeline.Entries().empty());
  stream_->passed = {At(5)};
  clock_.Resolve();
  ASSERT_EQ(timeline.Entries().size(), 1u);
  EXPECT_EQ(timeline.Entries()[0].instruction.micro_batch, 3);
  EXPECT_EQ(timeline.Entries()[0].begin, At(1));
  EXPECT_EQ(timeline.Entries()[0].end, At(5));
  EXPECT_DOUBLE_EQ(seconds(Activity::kCompute), 2);
}

// Beyond the limit of marks, or where the device refuses one, time goes to the activity that came last.
TEST_F(RankClockTest, ChangesWithoutAMarkAreMerged) {
  std::optional<RankClock::Scope> scope;
  scope.emplace(clock_, Activity::kCompute);
  stream_->refuses = true;
  scope.reset();
  scope.emplace(clock_, Activity::kPush);
  stream_->refuses = false;
  scope.reset();
  stream_->passed = {At(1), At(3)};
  clock_.Resolve();
  EXPECT_DOUBLE_EQ(seconds(Activity::kCompute), 0);
  EXPECT_DOUBLE_EQ(seconds(Activity::kPush), 2);
}

TEST_F(RankClockTest, MarksHaveALimit) {
  for (size_t i = 0; i < kClockMarksMax; ++i) RankClock::Scope computing(clock_, Activity::kCompute);
  EXPECT_EQ(stream_->marks, static_cast<int>(kClockMarksMax));
}

TEST(HostRankClockTest, OnTheHostTimesAreKnownAtOnce) {
  RankClock clock;
  Timeline timeline;
  clock.BeginInstruction(TimelineEntry(), &timeline);
  {
    RankClock::Scope computing(clock, Activity::kCompute);
    RankClock::Scope reducing(clock, Activity::kReduce);
  }
  clock.EndInstruction(&timeline);
  ASSERT_EQ(timeline.Entries().size(), 1u);
  const TimelineEntry entry = timeline.Entries()[0];
  const double both = clock.seconds(Activity::kCompute) + clock.seconds(Activity::kReduce);
  EXPECT_GT(both, 0);
  EXPECT_LE(both, absl::ToDoubleSeconds(entry.end - entry.begin));
}

}  // namespace
}  // namespace penstock
