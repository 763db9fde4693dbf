#include "services/base/clock.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "services/base/fake_clock.h"

namespace penstock {
namespace {

TEST(RealClockTest, TellsTheDateAndNeverGoesBack) {
  const Clock* clock = Clock::Real();
  EXPECT_LT(absl::AbsDuration(clock->Now() - absl::Now()), absl::Minutes(1));
  absl::Time last = clock->Monotonic();
  for (int i = 0; i < 1000; ++i) {
    const absl::Time now = clock->Monotonic();
    ASSERT_GE(now, last);
    last = now;
  }
  EXPECT_GT(last, absl::UnixEpoch());
}

TEST(FakeClockTest, MovesOnlyWhenTold) {
  FakeClock clock(absl::FromUnixSeconds(50));
  const absl::Time start = clock.Monotonic();
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(50));
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(53));
  EXPECT_EQ(clock.Monotonic(), start + absl::Seconds(3));
  clock.SetNow(absl::FromUnixSeconds(10));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(10));
  EXPECT_EQ(clock.Monotonic(), start + absl::Seconds(3));
}

}  // namespace
}  // namespace penstock
