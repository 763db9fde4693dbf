#include "core/commit/shard_step.h"

#include <random>

#include "core/commit/decision.h"
#include "core/commit/test_steps.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using Verdict = ShardStep::Verdict;
constexpr uint64_t kEpoch = 4;

// Three pieces of 8, 8 and 3 elements, from element 16 on.
ShardStep::Options TestOptions() {
  return {.range_begin = 16,
          .range_end = 35,
          .piece_elements = 8,
          .open_epoch = kEpoch,
          .committed_step = 0,
          .incarnation = 77};
}

void PushAll(ShardStep& shard, uint64_t epoch, uint64_t step) {
  const auto plan = shard.OnChunk(epoch, step, 16, 35);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const auto& piece : shard.OnChunkWritten(*plan)) shard.OnPieceSum(piece, static_cast<double>(piece.piece));
}

void PrepareStep(ShardStep& shard, uint64_t epoch, uint64_t step) {
  PushAll(shard, epoch, step);
  const auto verdict = shard.OnPrepare(epoch, step, TestInputs(step));
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  ASSERT_EQ(*verdict, Verdict::kDone);
}

v1::StepDecision DecisionOf(const ShardStep& shard, uint64_t step) {
  return *Decide(TestOptimizer(), 100, {shard.prepared(step)});
}

void CommitStep(ShardStep& shard, uint64_t epoch, uint64_t step) {
  PrepareStep(shard, epoch, step);
  const v1::StepDecision decision = DecisionOf(shard, step);
  ASSERT_EQ(*shard.OnCommit(epoch, decision), Verdict::kApply);
  shard.OnApplied();
}

TEST(ShardStepTest, CollectsPreparesAndCommits) {
  ShardStep shard(TestOptions());
  EXPECT_EQ(*shard.CheckPull(kEpoch, 0), Verdict::kDone);
  EXPECT_EQ(*shard.CheckPull(kEpoch, 1), Verdict::kWait);
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 1, TestInputs(1)), Verdict::kWait);

  auto plan = shard.OnChunk(kEpoch, 1, 16, 26);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->to_write, (std::vector<ElementRange>{{16, 26}}));
  auto whole = shard.OnChunkWritten(*plan);
  ASSERT_EQ(whole.size(), 1u);
  EXPECT_EQ(whole[0].piece, 2);
  EXPECT_EQ(whole[0].range, (ElementRange{16, 24}));
  shard.OnPieceSum(whole[0], 2.5);

  plan = shard.OnChunk(kEpoch, 1, 20, 35);
  EXPECT_EQ(plan->to_write, (std::vector<ElementRange>{{26, 35}}));
  whole = shard.OnChunkWritten(*plan);
  ASSERT_EQ(whole.size(), 2u);
  shard.OnPieceSum(whole[1], 4.5);
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 1, TestInputs(1)), Verdict::kWait) << "a sum is missing";
  shard.OnPieceSum(whole[0], 3.5);
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 1, TestInputs(1)), Verdict::kDone);
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 1, TestInputs(1)), Verdict::kDone) << "asked again";
  const v1::PreparedStep prepared = shard.prepared(1);
  EXPECT_EQ(std::vector<double>(prepared.piece_square_sums().begin(), prepared.piece_square_sums().end()),
            (std::vector<double>{2.5, 3.5, 4.5}));

  const v1::StepDecision decision = DecisionOf(shard, 1);
  EXPECT_EQ(*shard.OnCommit(kEpoch, decision), Verdict::kApply);
  EXPECT_TRUE(shard.busy());
  EXPECT_EQ(*shard.OnCommit(kEpoch, decision), Verdict::kWait) << "a second commit waits for the first";
  EXPECT_EQ(*shard.CheckPull(kEpoch, 1), Verdict::kWait);
  EXPECT_EQ(shard.CheckPull(kEpoch, 0).status().code(), absl::StatusCode::kFailedPrecondition);
  shard.OnApplied();
  EXPECT_EQ(shard.committed_step(), 1u);
  EXPECT_EQ(shard.last_decision_epoch(), kEpoch);
  EXPECT_EQ(*shard.OnCommit(kEpoch, decision), Verdict::kDone);
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 1, TestInputs(1)), Verdict::kDone) << "a late Prepare of the committed step";
  EXPECT_EQ(shard.prepared(1).piece_square_sums_size(), 3);
  EXPECT_EQ(*shard.CheckPull(kEpoch, 1), Verdict::kDone);
  EXPECT_FALSE(shard.busy());
}

TEST(ShardStepTest, RefusesWhatDoesNotFit) {
  ShardStep shard(TestOptions());
  EXPECT_EQ(shard.OnChunk(kEpoch, 1, 15, 20).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(shard.OnChunk(kEpoch, 1, 30, 36).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(shard.OnChunk(kEpoch, 1, 20, 20).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(shard.OnChunk(kEpoch, 2, 16, 20).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(shard.OnChunk(kEpoch, 0, 16, 20).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(shard.OnPushBegin(kEpoch - 1, 1).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(shard.OnPushBegin(kEpoch + 1, 1).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(shard.OnPrepare(kEpoch, 3, TestInputs(3)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(shard.CheckPull(kEpoch, 2).status().code(), absl::StatusCode::kFailedPrecondition);
  PrepareStep(shard, kEpoch, 1);
  EXPECT_EQ(shard.OnPrepare(kEpoch, 1, TestInputs(2)).status().code(), absl::StatusCode::kInvalidArgument);
  v1::StepDecision other_inputs = DecisionOf(shard, 1);
  other_inputs.mutable_inputs()->set_loss_sum(1);
  EXPECT_EQ(shard.OnCommit(kEpoch, other_inputs).status().code(), absl::StatusCode::kFailedPrecondition);
  v1::StepDecision future = DecisionOf(shard, 1);
  future.set_step(2);
  EXPECT_EQ(shard.OnCommit(kEpoch, future).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(shard.committed_step(), 0u);
}

TEST(ShardStepTest, ACommitWithoutPrepareIsRefused) {
  ShardStep shard(TestOptions());
  PushAll(shard, kEpoch, 1);
  v1::StepDecision decision;
  decision.set_step(1);
  *decision.mutable_inputs() = TestInputs(1);
  EXPECT_EQ(shard.OnCommit(kEpoch, decision).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ShardStepTest, AnotherDecisionForACommittedStepIsRefused) {
  ShardStep shard(TestOptions());
  CommitStep(shard, kEpoch, 1);
  v1::StepDecision other = *shard.last_decision();
  other.set_learning_rate(0.5f);
  EXPECT_EQ(shard.OnCommit(kEpoch, other).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ShardStepTest, DuplicatesOfPreparedAndCommittedStepsAreDropped) {
  ShardStep shard(TestOptions());
  PrepareStep(shard, kEpoch, 1);
  EXPECT_TRUE(shard.OnChunk(kEpoch, 1, 16, 24)->to_write.empty());
  ASSERT_EQ(*shard.OnCommit(kEpoch, DecisionOf(shard, 1)), Verdict::kApply);
  EXPECT_TRUE(shard.OnChunk(kEpoch, 1, 16, 24)->to_write.empty()) << "while the update reads the gradient";
  EXPECT_EQ(shard.OnChunk(kEpoch, 2, 16, 24).status().code(), absl::StatusCode::kFailedPrecondition);
  shard.OnApplied();
  EXPECT_TRUE(shard.OnChunk(kEpoch, 1, 16, 24)->to_write.empty());
  EXPECT_FALSE(shard.OnChunk(kEpoch, 2, 16, 24)->to_write.empty());
}

TEST(ShardStepTest, SealDropsWhatIsNotPreparedAndEndsAWaitingPrepare) {
  ShardStep shard(TestOptions());
  const auto in_flight = shard.OnChunk(kEpoch, 1, 16, 20);
  ASSERT_TRUE(in_flight.ok());
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 1, TestInputs(1)), Verdict::kWait);
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kWait) << "a chunk is being written";
  EXPECT_EQ(shard.OnPrepare(kEpoch, 1, TestInputs(1)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(shard.OnPushBegin(kEpoch + 1, 1).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(*shard.OnPrepare(kEpoch + 1, 1, TestInputs(1)), Verdict::kWait);
  EXPECT_TRUE(shard.OnChunkWritten(*in_flight).empty());
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kDone);
  const v1::SealResponse report = shard.Report();
  EXPECT_EQ(report.committed_step(), 0u);
  EXPECT_FALSE(report.has_prepared());
  EXPECT_FALSE(report.has_last_decision());
  EXPECT_EQ(report.incarnation(), 77u);
  EXPECT_EQ(report.open_epoch(), kEpoch);
  EXPECT_EQ(shard.OnSeal(kEpoch).status().code(), absl::StatusCode::kFailedPrecondition);
  CommitStep(shard, kEpoch + 1, 1);
  EXPECT_EQ(shard.committed_step(), 1u);
}

TEST(ShardStepTest, ASumThatComesAfterTheSealCountsForNothing) {
  ShardStep shard(TestOptions());
  const auto plan = shard.OnChunk(kEpoch, 1, 16, 24);
  const auto old_pieces = shard.OnChunkWritten(*plan);
  ASSERT_EQ(old_pieces.size(), 1u);
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kWait);
  shard.OnPieceSum(old_pieces[0], 1000.0);
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kDone);
  PrepareStep(shard, kEpoch + 1, 1);
  EXPECT_EQ(shard.prepared(1).piece_square_sums(0), 2.0);
}

TEST(ShardStepTest, ALateDuplicateOfSealDropsNothingOfItsOwnEpoch) {
  ShardStep shard(TestOptions());
  ASSERT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kDone);
  PushAll(shard, kEpoch + 1, 1);
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kDone);
  EXPECT_EQ(*shard.OnPrepare(kEpoch + 1, 1, TestInputs(1)), Verdict::kDone);
}

TEST(ShardStepTest, SealDuringAnUpdateWaitsForIt) {
  ShardStep shard(TestOptions());
  PrepareStep(shard, kEpoch, 1);
  const v1::StepDecision decision = DecisionOf(shard, 1);
  ASSERT_EQ(*shard.OnCommit(kEpoch, decision), Verdict::kApply);
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kWait);
  EXPECT_EQ(shard.OnCommit(kEpoch, decision).status().code(), absl::StatusCode::kFailedPrecondition);
  shard.OnApplied();
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kDone);
  EXPECT_EQ(shard.Report().committed_step(), 1u);
  EXPECT_TRUE(SameDecision(shard.Report().last_decision(), decision));
  EXPECT_EQ(shard.last_decision_epoch(), kEpoch) << "the same epoch on every shard, however it was completed";
}

TEST(ShardStepTest, APreparedStepSurvivesTheSealUntilItIsDecided) {
  for (const bool commit : {true, false}) {
    ShardStep shard(TestOptions());
    PrepareStep(shard, kEpoch, 1);
    const v1::StepDecision decision = DecisionOf(shard, 1);
    ASSERT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kDone);
    ASSERT_EQ(*shard.OnSeal(kEpoch + 2), Verdict::kDone);
    ASSERT_TRUE(shard.Report().has_prepared());
    EXPECT_EQ(shard.OnPushBegin(kEpoch + 2, 1).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(shard.OnPrepare(kEpoch + 2, 1, TestInputs(1)).status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(shard.OnCommit(kEpoch, decision).status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(shard.OnCommit(kEpoch + 2, decision).status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(shard.OnDecide(kEpoch + 1, 1, std::nullopt).status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(shard.Report().has_prepared());
    if (commit) {
      EXPECT_EQ(*shard.OnDecide(kEpoch + 2, 1, decision), Verdict::kApply);
      EXPECT_EQ(*shard.OnDecide(kEpoch + 2, 1, decision), Verdict::kWait);
      shard.OnApplied();
      EXPECT_EQ(*shard.OnDecide(kEpoch + 2, 1, decision), Verdict::kDone);
      EXPECT_EQ(shard.committed_step(), 1u);
    } else {
      EXPECT_EQ(*shard.OnDecide(kEpoch + 2, 1, std::nullopt), Verdict::kDone);
      EXPECT_FALSE(shard.Report().has_prepared());
      EXPECT_EQ(shard.committed_step(), 0u);
      PrepareStep(shard, kEpoch + 2, 1);
      // The same Decide again, late: this epoch's prepared step isn't its business.
      EXPECT_EQ(*shard.OnDecide(kEpoch + 2, 1, std::nullopt), Verdict::kDone);
      EXPECT_TRUE(shard.Report().has_prepared());
    }
  }
}

TEST(ShardStepTest, DecideRefusesToCommitWhatIsNotLeftOver) {
  ShardStep shard(TestOptions());
  v1::StepDecision decision;
  decision.set_step(1);
  *decision.mutable_inputs() = TestInputs(1);
  EXPECT_EQ(shard.OnDecide(kEpoch, 1, decision).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(shard.OnDecide(kEpoch, 2, decision).status().code(), absl::StatusCode::kInvalidArgument);
  PrepareStep(shard, kEpoch, 1);
  EXPECT_EQ(shard.OnDecide(kEpoch, 1, DecisionOf(shard, 1)).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ShardStepTest, AShardWithoutElementsPreparesAtOnce) {
  ShardStep shard({.range_begin = 64, .range_end = 64, .piece_elements = 8, .open_epoch = 1});
  EXPECT_EQ(*shard.OnPrepare(1, 1, TestInputs(1)), Verdict::kDone);
  EXPECT_EQ(shard.prepared(1).piece_square_sums_size(), 0);
}

TEST(ShardStepTest, OpensFromACheckpoint) {
  ShardStep::Options options = TestOptions();
  options.committed_step = 100;
  ShardStep shard(options);
  EXPECT_EQ(*shard.CheckPull(kEpoch, 100), Verdict::kDone);
  EXPECT_EQ(shard.OnPrepare(kEpoch, 100, TestInputs(100)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(shard.Report().has_last_decision());
  CommitStep(shard, kEpoch, 101);
  EXPECT_EQ(shard.committed_step(), 101u);
}

TEST(ShardStepTest, OpenAndCloseAreFenced) {
  ShardStep shard(TestOptions());
  ASSERT_TRUE(shard.OnSeal(kEpoch + 2).ok());
  EXPECT_EQ(*CheckOpen(nullptr, 1), OpenVerdict::kOpen);
  EXPECT_EQ(CheckOpen(&shard, kEpoch).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*CheckOpen(&shard, kEpoch + 2), OpenVerdict::kReplace);
  EXPECT_EQ(CheckClose(&shard, kEpoch + 1).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(CheckClose(&shard, kEpoch + 2).ok());
  EXPECT_TRUE(CheckClose(nullptr, 1).ok());
  ShardStep fresh(TestOptions());
  EXPECT_EQ(*CheckOpen(&fresh, kEpoch), OpenVerdict::kAlreadyOpen);
}

// Chunks of any size, in any order, overlapping, with late writes: every element is written exactly once, and every
// piece is summed once, after its last element.
TEST(ShardStepTest, RandomChunksWriteEveryElementOnce) {
  for (int seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    const int64_t begin = 64, end = begin + 1 + static_cast<int64_t>(random() % 100);
    ShardStep shard({.range_begin = begin, .range_end = end, .piece_elements = 16, .open_epoch = 1});
    std::vector<int> written(end, 0);
    std::vector<ShardStep::ChunkPlan> in_flight;
    int64_t sums = 0;
    for (int i = 0; *shard.OnPrepare(1, 1, TestInputs(1)) == Verdict::kWait; ++i) {
      ASSERT_LT(i, 10000);
      if (random() % 2 == 0 || in_flight.empty()) {
        const int64_t from = begin + static_cast<int64_t>(random() % (end - begin));
        const int64_t to = std::min<int64_t>(end, from + 1 + static_cast<int64_t>(random() % 40));
        const auto plan = shard.OnChunk(1, 1, from, to);
        ASSERT_TRUE(plan.ok());
        if (!plan->to_write.empty()) in_flight.push_back(*plan);
        continue;
      }
      const size_t pick = random() % in_flight.size();
      for (const ElementRange& range : in_flight[pick].to_write) {
        for (int64_t e = range.begin; e < range.end; ++e) ASSERT_EQ(++written[e], 1) << "seed " << seed;
      }
      for (const auto& piece : shard.OnChunkWritten(in_flight[pick])) {
        for (int64_t e = piece.range.begin; e < piece.range.end; ++e) ASSERT_EQ(written[e], 1);
        shard.OnPieceSum(piece, 1.0);
        ++sums;
      }
      in_flight.erase(in_flight.begin() + static_cast<int64_t>(pick));
    }
    EXPECT_TRUE(in_flight.empty());
    EXPECT_EQ(sums, (end - begin + 15) / 16);
  }
}

// --- A published job (zero.mirror off). ---

ShardStep::Options PublishedOptions() {
  ShardStep::Options options = TestOptions();
  options.published = true;
  return options;
}

void PublishAll(ShardStep& shard, uint64_t step) {
  for (int kind = 1; kind <= ShardStep::kStateKinds; ++kind) {
    const auto plan = shard.OnChunk(kEpoch, step, 16, 35, kind);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->to_write, (std::vector<ElementRange>{{16, 35}}));
    EXPECT_TRUE(shard.OnChunkWritten(*plan).empty()) << "nobody sums a state";
  }
}

TEST(ShardStepTest, APublishedVersionMaySkipStepsAndIsWholeWithAllItsKinds) {
  ShardStep shard(PublishedOptions());
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 7, TestInputs(7)), Verdict::kWait);
  EXPECT_TRUE(shard.intact());
  for (int kind = 1; kind <= 2; ++kind) shard.OnChunkWritten(*shard.OnChunk(kEpoch, 7, 16, 35, kind));
  const auto first_half = shard.OnChunk(kEpoch, 7, 16, 20, 3);
  EXPECT_FALSE(shard.intact());
  EXPECT_FALSE(shard.CheckPull(kEpoch, 0).ok()) << "it is being replaced";
  EXPECT_EQ(*shard.CheckPull(kEpoch, 7), Verdict::kWait);
  shard.OnChunkWritten(*first_half);
  EXPECT_EQ(*shard.OnPrepare(kEpoch, 7, TestInputs(7)), Verdict::kWait) << "the third kind is missing in part";
  const auto rest = shard.OnChunk(kEpoch, 7, 16, 35, 3);
  EXPECT_EQ(rest->to_write, (std::vector<ElementRange>{{20, 35}}));
  shard.OnChunkWritten(*rest);
  ASSERT_EQ(*shard.OnPrepare(kEpoch, 7, TestInputs(7)), Verdict::kDone);
  EXPECT_EQ(shard.prepared(7).piece_square_sums_size(), 0);
  v1::StepDecision decision;
  decision.set_step(7);
  *decision.mutable_inputs() = TestInputs(7);
  ASSERT_EQ(*shard.OnCommit(kEpoch, decision), Verdict::kApply);
  shard.OnApplied();
  EXPECT_EQ(shard.committed_step(), 7u);
  EXPECT_TRUE(shard.intact());
  EXPECT_EQ(*shard.CheckPull(kEpoch, 7), Verdict::kDone);
  // The epoch after it finds version 7.
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kDone);
  EXPECT_EQ(shard.Report().committed_step(), 7u);
}

TEST(ShardStepTest, APublishedStateThatIsTornIsNotFoundByTheNextEpoch) {
  ShardStep shard(PublishedOptions());
  const auto plan = shard.OnChunk(kEpoch, 3, 16, 20, 1);
  EXPECT_EQ(*shard.OnSeal(kEpoch + 1), Verdict::kWait) << "a chunk is being written";
  shard.OnChunkWritten(*plan);
  EXPECT_TRUE(absl::IsNotFound(shard.OnSeal(kEpoch + 1).status()));
  EXPECT_TRUE(absl::IsNotFound(shard.OnSeal(kEpoch + 2).status())) << "and stays so";
  EXPECT_FALSE(shard.CheckPull(kEpoch + 2, 0).ok());

  ShardStep prepared(PublishedOptions());
  PublishAll(prepared, 3);
  ASSERT_EQ(*prepared.OnPrepare(kEpoch, 3, TestInputs(3)), Verdict::kDone);
  EXPECT_TRUE(absl::IsNotFound(prepared.OnSeal(kEpoch + 1).status())) << "others may hold less of it";
}

TEST(ShardStepTest, OnlyOneVersionIsPublishedAtATimeAndNeverGradients) {
  ShardStep shard(PublishedOptions());
  EXPECT_TRUE(absl::IsInvalidArgument(shard.OnChunk(kEpoch, 1, 16, 20).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(shard.OnChunk(kEpoch, 1, 16, 20, 4).status()));
  ASSERT_TRUE(shard.OnChunk(kEpoch, 3, 16, 20, 1).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(shard.OnChunk(kEpoch, 4, 16, 20, 1).status()));
  ShardStep replaying(TestOptions());
  EXPECT_TRUE(absl::IsInvalidArgument(replaying.OnChunk(kEpoch, 1, 16, 20, 1).status()));
}

}  // namespace
}  // namespace penstock
