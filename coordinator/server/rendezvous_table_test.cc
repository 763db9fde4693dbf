#include "coordinator/server/rendezvous_table.h"

#include <gtest/gtest.h>

#include <optional>

namespace penstock {
namespace {

using Values = absl::StatusOr<std::vector<std::string>>;

class RendezvousTableTest : public testing::Test {
 protected:
  // Keeps what came, and that it came once.
  RendezvousTable::Done Keep(std::optional<Values>* answer) {
    return [answer](Values values) {
      EXPECT_FALSE(answer->has_value()) << "answered twice";
      *answer = std::move(values);
    };
  }

  RendezvousTable table_;
  std::optional<Values> answer_;
};

TEST_F(RendezvousTableTest, AWaiterGetsTheValuesInTheOrderOfItsKeys) {
  table_.Begin("job", 3);
  ASSERT_TRUE(table_.Set("job", 3, "b", "2").ok());
  table_.Wait("job", 3, {"a", "b"}, Keep(&answer_));
  EXPECT_FALSE(answer_.has_value());
  ASSERT_TRUE(table_.Set("job", 3, "c", "3").ok());
  EXPECT_FALSE(answer_.has_value());
  ASSERT_TRUE(table_.Set("job", 3, "a", "1").ok());
  ASSERT_TRUE(answer_.has_value());
  EXPECT_EQ(answer_->value(), (std::vector<std::string>{"1", "2"}));
  std::optional<Values> later;
  EXPECT_EQ(table_.Wait("job", 3, {"c"}, Keep(&later)), 0u);
  EXPECT_EQ(later->value(), std::vector<std::string>{"3"});
}

TEST_F(RendezvousTableTest, ANewEpochEndsTheWaitsOfTheOldOne) {
  table_.Begin("job", 3);
  ASSERT_TRUE(table_.Set("job", 3, "a", "1").ok());
  table_.Wait("job", 3, {"x"}, Keep(&answer_));
  table_.Begin("job", 3);  // the same one again changes nothing
  EXPECT_FALSE(answer_.has_value());
  table_.Begin("job", 4);
  ASSERT_TRUE(answer_.has_value());
  EXPECT_EQ(answer_->status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(table_.Set("job", 3, "a", "1").code(), absl::StatusCode::kFailedPrecondition);
  std::optional<Values> fresh;
  const uint64_t waiter = table_.Wait("job", 4, {"a"}, Keep(&fresh));
  EXPECT_FALSE(fresh.has_value()) << "the values of the old epoch are gone";
  table_.Cancel(waiter);
  EXPECT_EQ(fresh->status().code(), absl::StatusCode::kCancelled);
  table_.Cancel(waiter);
  // A key that comes after the cancel finds nobody.
  EXPECT_TRUE(table_.Set("job", 4, "a", "1").ok());
}

TEST_F(RendezvousTableTest, WithoutAnEpochThereIsNothingToMeetAt) {
  table_.Wait("job", 1, {"a"}, Keep(&answer_));
  EXPECT_EQ(answer_->status().code(), absl::StatusCode::kFailedPrecondition);
  table_.Begin("job", 1);
  std::optional<Values> waiting;
  table_.Wait("job", 1, {"a"}, Keep(&waiting));
  table_.End("job");
  EXPECT_EQ(waiting->status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(table_.Set("job", 1, "a", "1").code(), absl::StatusCode::kFailedPrecondition);
  table_.End("job");
}

TEST_F(RendezvousTableTest, LimitsAreKept) {
  table_.Begin("job", 1);
  EXPECT_EQ(table_.Set("job", 1, "", "1").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(table_.Set("job", 1, std::string(kRendezvousKeyBytesMax + 1, 'k'), "1").code(),
            absl::StatusCode::kResourceExhausted);
  const std::string big(kRendezvousValueBytesMax, 'v');
  EXPECT_EQ(table_.Set("job", 1, "k", big + "v").code(), absl::StatusCode::kResourceExhausted);
  absl::Status status;
  int taken = 0;
  while (status.ok()) {
    status = table_.Set("job", 1, "k" + std::to_string(taken), big);
    if (status.ok()) ++taken;
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(static_cast<size_t>(taken), (kRendezvousBytesMax - 1) / kRendezvousValueBytesMax);
  table_.Wait("job", 1, {}, Keep(&answer_));
  EXPECT_EQ(answer_->status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
