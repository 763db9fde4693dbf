#include "core/commit/step_leader.h"

#include "core/commit/decision.h"
#include "core/commit/test_steps.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);

template <typename T>
int Count(const StepLeader::Actions& actions) {
  int count = 0;
  for (const auto& action : actions) count += std::holds_alternative<T>(action) ? 1 : 0;
  return count;
}
template <typename T>
const T& Get(const StepLeader::Actions& actions) {
  for (const auto& action : actions) {
    if (const T* found = std::get_if<T>(&action)) return *found;
  }
  ADD_FAILURE() << "no such action";
  static const T kNone{};
  return kNone;
}

StepLeader MakeLeader(int shards) {
  return StepLeader(
      {.shard_count = shards, .epoch = 3, .optimizer = TestOptimizer(), .total_steps = 100, .backoff = {}});
}

TEST(StepLeaderTest, CommitsWhenEveryShardHasPrepared) {
  StepLeader leader = MakeLeader(2);
  auto actions = leader.Start(5, TestInputs(5), kStart);
  EXPECT_EQ(Count<StepLeader::SendPrepare>(actions), 2);
  EXPECT_TRUE(leader.OnPrepareReply(1, TestPrepared(5, {2.0}), kStart).empty());
  EXPECT_TRUE(leader.OnPrepareReply(1, TestPrepared(5, {2.0}), kStart).empty()) << "the same reply twice";
  actions = leader.OnPrepareReply(0, TestPrepared(5, {1.0}), kStart);
  ASSERT_EQ(Count<StepLeader::SendCommit>(actions), 2);
  const v1::StepDecision decision = Get<StepLeader::SendCommit>(actions).decision;
  EXPECT_TRUE(SameDecision(decision, *Decide(TestOptimizer(), 100, {TestPrepared(5, {1.0}), TestPrepared(5, {2.0})})));
  EXPECT_TRUE(leader.OnPrepareReply(0, absl::InternalError("late"), kStart).empty());
  EXPECT_TRUE(leader.OnCommitReply(0, 5, kStart).empty());
  actions = leader.OnCommitReply(1, 5, kStart);
  EXPECT_TRUE(SameDecision(Get<StepLeader::StepDone>(actions).decision, decision));
  EXPECT_TRUE(leader.idle());
  EXPECT_EQ(leader.NextTick(), absl::InfiniteFuture());
  EXPECT_EQ(Count<StepLeader::SendPrepare>(leader.Start(6, TestInputs(6), kStart)), 2);
  EXPECT_TRUE(leader.OnPrepareReply(0, TestPrepared(5, {1.0}), kStart).empty()) << "of the step before";
  EXPECT_TRUE(leader.OnPrepareReply(1, TestPrepared(6, {1.0}), kStart).empty());
  EXPECT_FALSE(leader.OnPrepareReply(0, TestPrepared(6, {1.0}), kStart).empty());
}

TEST(StepLeaderTest, AsksAgainWithBackoffInBothPhases) {
  StepLeader leader = MakeLeader(1);
  leader.Start(1, TestInputs(1), kStart);
  absl::Time now = kStart;
  absl::Duration last_wait = absl::ZeroDuration();
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(leader.OnPrepareReply(0, absl::DeadlineExceededError("slow"), now).empty());
    EXPECT_TRUE(leader.OnTick(now).empty()) << "not at once";
    const absl::Duration wait = leader.NextTick() - now;
    EXPECT_GT(wait, last_wait);
    last_wait = wait;
    now = leader.NextTick();
    EXPECT_EQ(Count<StepLeader::SendPrepare>(leader.OnTick(now)), 1);
    EXPECT_TRUE(leader.OnTick(now).empty()) << "only once";
  }
  const auto actions = leader.OnPrepareReply(0, TestPrepared(1, {4.0}), now);
  const v1::StepDecision decision = Get<StepLeader::SendCommit>(actions).decision;
  EXPECT_TRUE(leader.OnCommitReply(0, absl::UnavailableError("reset"), now).empty());
  const auto again = leader.OnTick(leader.NextTick());
  EXPECT_TRUE(SameDecision(Get<StepLeader::SendCommit>(again).decision, decision));
  EXPECT_EQ(Count<StepLeader::StepDone>(leader.OnCommitReply(0, 1, now)), 1);
}

TEST(StepLeaderTest, FencedMeansStop) {
  for (const bool in_commit : {false, true}) {
    StepLeader leader = MakeLeader(2);
    leader.Start(1, TestInputs(1), kStart);
    StepLeader::Actions actions;
    if (in_commit) {
      leader.OnPrepareReply(0, TestPrepared(1, {1.0}), kStart);
      leader.OnPrepareReply(1, TestPrepared(1, {1.0}), kStart);
      actions = leader.OnCommitReply(1, absl::FailedPreconditionError("epoch 3 is over"), kStart);
    } else {
      actions = leader.OnPrepareReply(1, absl::FailedPreconditionError("epoch 3 is over"), kStart);
    }
    const auto& failed = Get<StepLeader::StepFailed>(actions);
    EXPECT_EQ(failed.status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_FALSE(failed.permanent);
    EXPECT_NE(failed.status.message().find("shard 1"), absl::string_view::npos) << failed.status;
    EXPECT_TRUE(leader.OnPrepareReply(0, TestPrepared(1, {1.0}), kStart).empty());
    EXPECT_TRUE(leader.OnCommitReply(0, 1, kStart).empty());
    EXPECT_TRUE(leader.OnTick(kStart + absl::Hours(1)).empty());
  }
}

TEST(StepLeaderTest, ANormThatIsNotFiniteIsPermanent) {
  StepLeader leader = MakeLeader(1);
  leader.Start(1, TestInputs(1), kStart);
  const auto actions = leader.OnPrepareReply(0, TestPrepared(1, {1.0 / 0.0}), kStart);
  EXPECT_EQ(Count<StepLeader::SendCommit>(actions), 0);
  EXPECT_TRUE(Get<StepLeader::StepFailed>(actions).permanent);
}

TEST(StepLeaderTest, GivesUpAfterTheStepTimeoutNamingTheSilentShards) {
  StepLeader leader = MakeLeader(3);
  leader.Start(1, TestInputs(1), kStart);
  leader.OnPrepareReply(1, TestPrepared(1, {1.0}), kStart);
  const absl::Time end = leader.NextTick();
  EXPECT_EQ(end, kStart + absl::Minutes(10));
  const auto actions = leader.OnTick(end);
  const auto& failed = Get<StepLeader::StepFailed>(actions);
  EXPECT_EQ(failed.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(failed.status.message().find("from shard 0, 2"), absl::string_view::npos) << failed.status;
}

TEST(StepLeaderTest, WhatTheShardsReplayMustBeWhatTheRanksDid) {
  const v1::StepDecision known = *Decide(TestOptimizer(), 100, {TestPrepared(5, {1.0, 2.0})});
  StepLeader same = MakeLeader(1);
  same.Start(5, TestInputs(5), kStart, known);
  const auto commits = same.OnPrepareReply(0, TestPrepared(5, {1.0, 2.0}), kStart);
  EXPECT_TRUE(SameDecision(Get<StepLeader::SendCommit>(commits).decision, known));

  StepLeader other = MakeLeader(1);
  other.Start(5, TestInputs(5), kStart, known);
  const auto failed = other.OnPrepareReply(0, TestPrepared(5, {1.0, 2.5}), kStart);
  EXPECT_TRUE(Get<StepLeader::StepFailed>(failed).permanent);
  EXPECT_EQ(Count<StepLeader::SendCommit>(failed), 0);
}

TEST(StepLeaderTest, APublishedStepIsCommittedWithTheRanksDecision) {
  const v1::StepDecision known = *Decide(TestOptimizer(), 100, {TestPrepared(5, {1.0})});
  StepLeader leader({.shard_count = 1,
                     .epoch = 3,
                     .optimizer = TestOptimizer(),
                     .total_steps = 100,
                     .backoff = {},
                     .published = true});
  leader.Start(5, TestInputs(5), kStart, known);
  const auto commits = leader.OnPrepareReply(0, TestPrepared(5, {}), kStart);
  EXPECT_TRUE(SameDecision(Get<StepLeader::SendCommit>(commits).decision, known));
}

}  // namespace
}  // namespace penstock
