#include "core/commit/epoch_change.h"

#include "core/commit/decision.h"
#include "core/commit/test_steps.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);
constexpr uint64_t kEpoch = 9;
constexpr uint64_t kOpenEpoch = 2;

template <typename T>
std::vector<T> All(const EpochChange::Actions& actions) {
  std::vector<T> found;
  for (const auto& action : actions) {
    if (const T* hit = std::get_if<T>(&action)) found.push_back(*hit);
  }
  return found;
}

v1::SealResponse Report(uint64_t committed, bool prepared = false, bool decided = false) {
  v1::SealResponse report;
  report.set_committed_step(committed);
  report.set_open_epoch(kOpenEpoch);
  report.set_incarnation(5);
  if (prepared) *report.mutable_prepared() = TestPrepared(committed + 1, {1.0});
  if (decided) *report.mutable_last_decision() = *Decide(TestOptimizer(), 100, {TestPrepared(committed, {1.0})});
  return report;
}

EpochChange Make(int shards) {
  EpochChange::Options options{.epoch = kEpoch,
                               .open_epoch = kOpenEpoch,
                               .shards = {},
                               .incarnations = {},
                               .optimizer = TestOptimizer(),
                               .total_steps = 100,
                               .backoff = {}};
  for (int i = 0; i < shards; ++i) options.shards.push_back("params-" + std::to_string(i));
  return EpochChange(options);
}

EpochChange::Actions SealAll(EpochChange& change, const std::vector<v1::SealResponse>& reports) {
  EXPECT_EQ(All<EpochChange::SendSeal>(change.Start(kStart)).size(), reports.size());
  EpochChange::Actions actions;
  for (size_t i = 0; i < reports.size(); ++i) {
    EXPECT_TRUE(actions.empty()) << "decided before every shard had reported";
    actions = change.OnSealReply(static_cast<int>(i), reports[i], kStart);
  }
  return actions;
}

v1::DecideResponse Decided(uint64_t step) {
  v1::DecideResponse response;
  response.set_committed_step(step);
  return response;
}

TEST(EpochChangeTest, NothingOpen) {
  EpochChange change = Make(2);
  const auto ready = All<EpochChange::Ready>(SealAll(change, {Report(7), Report(7)}));
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_EQ(ready[0].start_step, 7u);
  EXPECT_FALSE(ready[0].completed.has_value());
  EXPECT_EQ(ready[0].incarnations, (std::vector<uint64_t>{5, 5}));
  EXPECT_TRUE(change.ended());
}

TEST(EpochChangeTest, PreparedEverywhereIsCommitted) {
  EpochChange change = Make(2);
  const auto tell = All<EpochChange::SendDecide>(SealAll(change, {Report(7, true), Report(7, true)}));
  ASSERT_EQ(tell.size(), 2u);
  ASSERT_TRUE(tell[0].decision.has_value());
  EXPECT_TRUE(
      SameDecision(*tell[0].decision, *Decide(TestOptimizer(), 100, {TestPrepared(8, {1.0}), TestPrepared(8, {1.0})})));
  EXPECT_TRUE(SameDecision(*tell[0].decision, *tell[1].decision));
  EXPECT_TRUE(change.OnDecideReply(1, Decided(8), kStart).empty());
  EXPECT_TRUE(change.OnDecideReply(1, Decided(8), kStart).empty());
  const auto ready = All<EpochChange::Ready>(change.OnDecideReply(0, Decided(8), kStart));
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_EQ(ready[0].start_step, 8u);
  ASSERT_TRUE(ready[0].completed.has_value());
}

TEST(EpochChangeTest, PreparedHereAndThereIsDiscarded) {
  EpochChange change = Make(3);
  const auto tell = All<EpochChange::SendDecide>(SealAll(change, {Report(7), Report(7, true), Report(7)}));
  ASSERT_EQ(tell.size(), 1u);
  EXPECT_EQ(tell[0].shard, 1);
  EXPECT_EQ(tell[0].step, 8u);
  EXPECT_FALSE(tell[0].decision.has_value());
  const auto ready = All<EpochChange::Ready>(change.OnDecideReply(1, Decided(7), kStart));
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_EQ(ready[0].start_step, 7u);
}

TEST(EpochChangeTest, CommittedSomewhereIsCommittedEverywhereWithTheRecordedDecision) {
  EpochChange change = Make(3);
  v1::SealResponse ahead = Report(8, false, true);
  ahead.mutable_last_decision()->set_gradient_norm(123.0);  // not what Decide() would say: the record counts
  const auto tell = All<EpochChange::SendDecide>(SealAll(change, {Report(7, true), ahead, Report(7, true)}));
  ASSERT_EQ(tell.size(), 2u);
  EXPECT_EQ(tell[0].shard, 0);
  EXPECT_EQ(tell[1].shard, 2);
  EXPECT_EQ(tell[0].decision->gradient_norm(), 123.0);
  change.OnDecideReply(0, Decided(8), kStart);
  EXPECT_EQ(All<EpochChange::Ready>(change.OnDecideReply(2, Decided(8), kStart)).size(), 1u);
}

TEST(EpochChangeTest, AStepWhoseNormIsNotFiniteIsDiscarded) {
  EpochChange change = Make(1);
  v1::SealResponse report = Report(7, true);
  report.mutable_prepared()->set_piece_square_sums(0, 1.0 / 0.0);
  const auto tell = All<EpochChange::SendDecide>(SealAll(change, {report}));
  ASSERT_EQ(tell.size(), 1u);
  EXPECT_FALSE(tell[0].decision.has_value());
}

TEST(EpochChangeTest, ContradictionsNameTheShards) {
  v1::SealResponse wrong_prepared = Report(7, true);
  wrong_prepared.mutable_prepared()->set_step(11);
  v1::SealResponse other_inputs = Report(7, true);
  other_inputs.mutable_prepared()->mutable_inputs()->set_loss_sum(0.5);
  v1::SealResponse other_decision = Report(8, false, true);
  other_decision.mutable_last_decision()->set_learning_rate(3.0f);
  const struct {
    std::vector<v1::SealResponse> reports;
    const char* named;
  } cases[] = {
      {{Report(5), Report(7)}, "params-0"},
      {{Report(8, false, true), Report(7)}, "params-1"},
      {{Report(8), Report(7, true)}, "params-0"},
      {{Report(8, true, true), Report(7, true)}, "params-0"},
      {{Report(7), wrong_prepared}, "params-1"},
      {{Report(8, false, true), other_inputs}, "params-1"},
      {{Report(7, true), other_inputs}, "shard 1"},
      {{Report(8, false, true), other_decision, Report(7, true)}, "params-1"},
  };
  for (const auto& c : cases) {
    EpochChange change = Make(static_cast<int>(c.reports.size()));
    const auto failed = All<EpochChange::ChangeFailed>(SealAll(change, c.reports));
    ASSERT_EQ(failed.size(), 1u) << c.named;
    EXPECT_EQ(failed[0].status.code(), absl::StatusCode::kInternal);
    EXPECT_NE(failed[0].status.message().find(c.named), absl::string_view::npos) << failed[0].status;
  }
}

TEST(EpochChangeTest, LostStateNeedsARestore) {
  EpochChange not_found = Make(2);
  not_found.Start(kStart);
  EXPECT_EQ(
      All<EpochChange::RestoreNeeded>(not_found.OnSealReply(0, absl::NotFoundError("no such job"), kStart)).size(), 1u);
  EXPECT_TRUE(not_found.OnSealReply(1, Report(7), kStart).empty());

  EpochChange reopened = Make(2);
  v1::SealResponse other = Report(0);
  other.set_open_epoch(1);
  EXPECT_EQ(All<EpochChange::RestoreNeeded>(SealAll(reopened, {Report(7), other})).size(), 1u);

  EpochChange::Options options{.epoch = kEpoch,
                               .open_epoch = kOpenEpoch,
                               .shards = {"a", "b"},
                               .incarnations = {5, 6},
                               .optimizer = TestOptimizer(),
                               .total_steps = 100,
                               .backoff = {}};
  EpochChange new_process(options);
  const auto restore = All<EpochChange::RestoreNeeded>(SealAll(new_process, {Report(7), Report(7)}));
  ASSERT_EQ(restore.size(), 1u);
  EXPECT_NE(restore[0].reason.find("b is a new process"), std::string::npos);

  EpochChange lost_later = Make(2);
  SealAll(lost_later, {Report(7, true), Report(7, true)});
  EXPECT_EQ(All<EpochChange::RestoreNeeded>(lost_later.OnDecideReply(0, absl::NotFoundError("gone"), kStart)).size(),
            1u);
}

TEST(EpochChangeTest, AnOldCoordinatorIsToldSo) {
  EpochChange change = Make(2);
  change.Start(kStart);
  const auto failed =
      All<EpochChange::ChangeFailed>(change.OnSealReply(1, absl::FailedPreconditionError("epoch 9 is over"), kStart));
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0].status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(change.OnTick(kStart + absl::Hours(1)).empty());
}

TEST(EpochChangeTest, AsksAgainForAsLongAsItTakes) {
  EpochChange change = Make(2);
  change.Start(kStart);
  change.OnSealReply(0, Report(7, true), kStart);
  absl::Time now = kStart;
  for (int i = 0; i < 30; ++i) {
    EXPECT_TRUE(change.OnSealReply(1, absl::UnavailableError("connection refused"), now).empty());
    EXPECT_EQ(change.WaitingFor(), "params-1 (UNAVAILABLE: connection refused)");
    ASSERT_LE(change.NextTick(), now + absl::Seconds(2));
    now = change.NextTick();
    const auto again = All<EpochChange::SendSeal>(change.OnTick(now));
    ASSERT_EQ(again.size(), 1u);
    EXPECT_EQ(again[0].shard, 1);
  }
  ASSERT_EQ(All<EpochChange::SendDecide>(change.OnSealReply(1, Report(7), now)).size(), 1u);
  change.OnDecideReply(0, absl::DeadlineExceededError("slow"), now);
  const auto again = All<EpochChange::SendDecide>(change.OnTick(change.NextTick()));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_FALSE(again[0].decision.has_value());
  EXPECT_EQ(All<EpochChange::Ready>(change.OnDecideReply(0, Decided(7), now)).size(), 1u);
  EXPECT_EQ(change.WaitingFor(), "");
}

}  // namespace
}  // namespace penstock
