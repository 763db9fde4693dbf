#include "coordinator/membership/lease_table.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr absl::Time kStart = absl::FromUnixSeconds(1000);
constexpr absl::Duration kLease = absl::Seconds(2);

v1::MemberInfo Worker(const std::string& id, uint64_t incarnation) {
  v1::MemberInfo info;
  info.set_role(v1::MEMBER_ROLE_WORKER);
  info.set_id(id);
  info.set_incarnation(incarnation);
  info.set_address("127.0.0.1:1");
  info.set_pid(static_cast<uint32_t>(incarnation) + 100);
  return info;
}

TEST(LeaseTableTest, AMemberIsLostWhenItsLeaseEnds) {
  LeaseTable table(kLease);
  const auto joined = table.OnHello(1, Worker("worker-0", 7), kStart);
  ASSERT_TRUE(joined.ok());
  EXPECT_TRUE(joined->is_new);
  EXPECT_EQ(table.NextTick(), kStart + kLease);
  v1::Cursor cursor;
  cursor.set_step(57);
  table.OnCursor(1, cursor);
  ASSERT_NE(table.OnHeard(1, kStart + absl::Seconds(1)), nullptr);
  EXPECT_TRUE(table.OnTick(kStart + absl::Milliseconds(2999)).empty());
  const auto lost = table.OnTick(kStart + absl::Seconds(3));
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_EQ(lost[0].id, "worker-0");
  EXPECT_EQ(lost[0].reason, "silent; lease expired after 2s");
  EXPECT_EQ(lost[0].cursor.step(), 57u);
  EXPECT_EQ(lost[0].stream, std::optional<uint64_t>(1));
  EXPECT_TRUE(table.OnTick(kStart + absl::Seconds(9)).empty()) << "lost once";
  EXPECT_TRUE(table.Find("worker-0")->lost);
  EXPECT_EQ(table.FindLiving("worker-0", 7), nullptr);
  EXPECT_EQ(table.NextTick(), absl::InfiniteFuture());
  EXPECT_EQ(table.OnHeard(1, kStart + absl::Seconds(9)), nullptr) << "its stream has to say Hello again";
}

TEST(LeaseTableTest, AStreamThatEndsIsNotTheMembersEnd) {
  LeaseTable table(kLease);
  ASSERT_TRUE(table.OnHello(1, Worker("worker-0", 7), kStart).ok());
  table.OnStreamEnd(1, "connection closed");
  EXPECT_TRUE(table.OnTick(kStart + absl::Seconds(1)).empty());
  const auto back = table.OnHello(2, Worker("worker-0", 7), kStart + absl::Seconds(1));
  ASSERT_TRUE(back.ok());
  EXPECT_FALSE(back->is_new);
  EXPECT_FALSE(back->superseded_stream.has_value());
  EXPECT_FALSE(back->lost.has_value());
  table.OnStreamEnd(2, "connection closed");
  const auto lost = table.OnTick(kStart + absl::Seconds(3));
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_EQ(lost[0].reason, "connection closed; lease expired after 2s");
}

TEST(LeaseTableTest, AProcessThatIsGoneIsLostBeforeItsLeaseEnds) {
  LeaseTable table(kLease);
  ASSERT_TRUE(table.OnHello(1, Worker("worker-0", 7), kStart).ok());
  EXPECT_FALSE(table.OnGone("worker-0", 7).has_value()) << "it has a stream";
  const LeaseTable::Member* const broken = table.OnStreamEnd(1, "connection closed");
  ASSERT_NE(broken, nullptr);
  EXPECT_EQ(broken->info.id(), "worker-0");
  EXPECT_EQ(table.OnStreamEnd(1, "connection closed"), nullptr);
  EXPECT_FALSE(table.OnGone("worker-0", 6).has_value()) << "an older process";
  const auto lost = table.OnGone("worker-0", 7);
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->reason, "connection closed; nobody listens at 127.0.0.1:1 any more");
  EXPECT_FALSE(table.OnGone("worker-0", 7).has_value()) << "lost once";
  EXPECT_TRUE(table.OnTick(kStart + absl::Seconds(9)).empty());
  // A wrong verdict costs an epoch and no more: the process is a member again.
  const auto back = table.OnHello(2, Worker("worker-0", 7), kStart + absl::Seconds(1));
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(back->is_new);
  EXPECT_NE(table.FindLiving("worker-0", 7), nullptr);
}

TEST(LeaseTableTest, AnEndOfAnOldStreamDoesNotTouchTheNewOne) {
  LeaseTable table(kLease);
  ASSERT_TRUE(table.OnHello(1, Worker("worker-0", 7), kStart).ok());
  const auto back = table.OnHello(2, Worker("worker-0", 7), kStart);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->superseded_stream, std::optional<uint64_t>(1));
  table.OnStreamEnd(1, "connection closed");
  EXPECT_EQ(table.Find("worker-0")->stream, 2u);
  EXPECT_EQ(table.OnHeard(1, kStart + absl::Seconds(1)), nullptr) << "what a superseded stream says doesn't count";
  EXPECT_EQ(table.Find("worker-0")->heard_at, kStart);
}

TEST(LeaseTableTest, ANewProcessTakesThePlaceAtOnce) {
  LeaseTable table(kLease);
  ASSERT_TRUE(table.OnHello(1, Worker("worker-0", 7), kStart).ok());
  const auto taken = table.OnHello(2, Worker("worker-0", 8), kStart + absl::Seconds(1));
  ASSERT_TRUE(taken.ok());
  EXPECT_TRUE(taken->is_new);
  EXPECT_EQ(taken->refused_stream, std::optional<uint64_t>(1));
  ASSERT_TRUE(taken->lost.has_value());
  EXPECT_EQ(taken->lost->incarnation, 7u);
  EXPECT_EQ(taken->lost->reason, "another process took its place (pid 108 after 107)");
  EXPECT_EQ(table.OnHello(3, Worker("worker-0", 7), kStart + absl::Seconds(1)).status().code(),
            absl::StatusCode::kAborted);
  EXPECT_NE(table.FindLiving("worker-0", 8), nullptr);
}

TEST(LeaseTableTest, ALostMemberMayComeBackAsTheSameProcess) {
  LeaseTable table(kLease);
  ASSERT_TRUE(table.OnHello(1, Worker("worker-0", 7), kStart).ok());
  ASSERT_EQ(table.OnTick(kStart + kLease).size(), 1u);
  const auto back = table.OnHello(2, Worker("worker-0", 7), kStart + absl::Seconds(5));
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(back->is_new);
  EXPECT_FALSE(back->lost.has_value()) << "it was reported lost already";
  EXPECT_NE(table.FindLiving("worker-0", 7), nullptr);
}

TEST(LeaseTableTest, AnEvictedProcessIsRefusedForGood) {
  LeaseTable table(kLease);
  ASSERT_TRUE(table.OnHello(1, Worker("worker-0", 7), kStart).ok());
  EXPECT_EQ(table.Evict("worker-0", 8), std::nullopt);
  EXPECT_EQ(table.Evict("worker-0", 7), std::optional<uint64_t>(1));
  EXPECT_EQ(table.Find("worker-0"), nullptr);
  EXPECT_EQ(table.OnHello(2, Worker("worker-0", 7), kStart).status().code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(table.OnHello(3, Worker("worker-0", 8), kStart).ok());
}

TEST(LeaseTableTest, AHelloThatMakesNoSenseIsRefused) {
  LeaseTable table(kLease);
  EXPECT_EQ(table.OnHello(1, Worker("", 7), kStart).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(table.OnHello(1, Worker("a", 0), kStart).status().code(), absl::StatusCode::kInvalidArgument);
  v1::MemberInfo info = Worker("a", 7);
  info.set_role(v1::MEMBER_ROLE_UNSPECIFIED);
  EXPECT_EQ(table.OnHello(1, info, kStart).status().code(), absl::StatusCode::kInvalidArgument);
  info = Worker("a", 7);
  info.clear_address();
  EXPECT_EQ(table.OnHello(1, info, kStart).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(table.members().empty());

  ASSERT_TRUE(table.OnHello(1, Worker("a", 7), kStart).ok());
  info = Worker("a", 8);
  info.set_role(v1::MEMBER_ROLE_SHARD);
  EXPECT_EQ(table.OnHello(2, info, kStart).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST(LeaseTableTest, LostMembersAreForgottenAboveTheLimit) {
  LeaseTable table(kLease);
  for (size_t i = 0; i < kLostMembersMax + 10; ++i) {
    ASSERT_TRUE(table.OnHello(i + 1, Worker("worker-" + std::to_string(i), 7), kStart + absl::Milliseconds(i)).ok());
    EXPECT_EQ(table.OnTick(kStart + absl::Milliseconds(i) + kLease).size(), 1u);
  }
  EXPECT_EQ(table.members().size(), kLostMembersMax);
  EXPECT_EQ(table.Find("worker-0"), nullptr);
}

TEST(MemberIdLessTest, NumbersCountAsNumbers) {
  EXPECT_TRUE(MemberIdLess("params-2", "params-10"));
  EXPECT_FALSE(MemberIdLess("params-10", "params-2"));
  EXPECT_TRUE(MemberIdLess("a-3", "b-1"));
  EXPECT_TRUE(MemberIdLess("params", "params-1"));
  EXPECT_FALSE(MemberIdLess("x", "x"));
  EXPECT_TRUE(MemberIdLess("p-01", "p-1") != MemberIdLess("p-1", "p-01"));
  EXPECT_TRUE(MemberIdLess("7", "11"));
}

}  // namespace
}  // namespace penstock
