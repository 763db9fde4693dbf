#include "services/telemetry/timeline.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(TimelineTest, KeepsTheLastEntriesInOrder) {
  Timeline timeline(3);
  EXPECT_TRUE(timeline.Entries().empty());
  for (uint64_t step = 1; step <= 5; ++step) {
    timeline.Record({.epoch = 1,
                     .step = step,
                     .instruction = {Op::kForward, static_cast<int>(step), -1},
                     .validation = false,
                     .begin = absl::UnixEpoch(),
                     .end = absl::UnixEpoch() + absl::Seconds(step)});
    const std::vector<TimelineEntry> entries = timeline.Entries();
    ASSERT_EQ(entries.size(), std::min<uint64_t>(step, 3));
    for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(entries[i].step, step - entries.size() + 1 + i);
  }
  EXPECT_EQ(timeline.Entries().back().instruction.micro_batch, 5);
}

}  // namespace
}  // namespace penstock
