#include "coordinator/jobs/ledger.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

v1::StepRecord Record(uint64_t step, std::vector<std::pair<uint64_t, uint64_t>> ranges) {
  v1::StepRecord record;
  record.set_step(step);
  for (const auto& [begin, end] : ranges) {
    v1::SampleRange* range = record.add_samples();
    range->set_begin(begin);
    range->set_end(end);
  }
  return record;
}

void ExpectCounts(const Ledger& ledger, uint64_t consumed, uint64_t repeated, uint64_t skipped) {
  EXPECT_EQ(ledger.counts().consumed, consumed);
  EXPECT_EQ(ledger.counts().repeated, repeated);
  EXPECT_EQ(ledger.counts().skipped, skipped);
}

TEST(LedgerTest, ASoundJobRepeatsAndSkipsNothing) {
  Ledger ledger;
  ExpectCounts(ledger, 0, 0, 0);
  for (uint64_t step = 1; step <= 100; ++step) ledger.Add(Record(step, {{(step - 1) * 8, step * 8}}));
  EXPECT_EQ(ledger.contiguous_step(), 100u);
  ExpectCounts(ledger, 800, 0, 0);
}

TEST(LedgerTest, ARecordThatComesTwiceCountsOnce) {
  Ledger ledger;
  ledger.Add(Record(1, {{0, 8}}));
  ledger.Add(Record(1, {{0, 8}}));
  ledger.Add(Record(2, {{8, 16}}));
  ledger.Add(Record(1, {{0, 8}}));
  ExpectCounts(ledger, 16, 0, 0);
}

TEST(LedgerTest, StepsAfterAHoleWaitUntilItIsFilled) {
  Ledger ledger;
  ledger.Add(Record(1, {{0, 8}}));
  ledger.Add(Record(4, {{24, 32}}));
  ledger.Add(Record(3, {{16, 24}}));
  EXPECT_EQ(ledger.contiguous_step(), 1u);
  ExpectCounts(ledger, 8, 0, 0);
  EXPECT_TRUE(ledger.Has(4));
  EXPECT_FALSE(ledger.Has(2));
  ledger.Add(Record(2, {{8, 16}}));
  EXPECT_EQ(ledger.contiguous_step(), 4u);
  ExpectCounts(ledger, 32, 0, 0);
}

TEST(LedgerTest, RepeatedAndSkippedSamplesShow) {
  Ledger ledger;
  ledger.Add(Record(1, {{0, 8}}));
  ledger.Add(Record(2, {{4, 12}}));   // 4..7 again
  ledger.Add(Record(3, {{20, 28}}));  // 12..19 left out
  ExpectCounts(ledger, 20, 4, 8);
  // A late reader of what was left out makes it whole.
  ledger.Add(Record(4, {{12, 20}}));
  ExpectCounts(ledger, 28, 4, 0);
}

TEST(LedgerTest, AStepOfSeveralRangesCounts) {
  Ledger ledger;
  ledger.Add(Record(1, {{0, 4}, {6, 8}}));
  ledger.Add(Record(2, {{8, 16}}));
  ExpectCounts(ledger, 14, 0, 2);
  ledger.Add(Record(3, {}));
  EXPECT_EQ(ledger.contiguous_step(), 3u);
  ledger.Add(Record(4, {{9, 3}}));  // no range at all
  ExpectCounts(ledger, 14, 0, 2);
}

TEST(LedgerTest, ACutForgetsWhatCameAfter) {
  Ledger ledger;
  for (uint64_t step = 1; step <= 10; ++step) ledger.Add(Record(step, {{(step - 1) * 8, step * 8}}));
  ledger.Cut(6);
  EXPECT_EQ(ledger.contiguous_step(), 6u);
  ExpectCounts(ledger, 48, 0, 0);
  for (uint64_t step = 7; step <= 10; ++step) ledger.Add(Record(step, {{(step - 1) * 8, step * 8}}));
  ExpectCounts(ledger, 80, 0, 0);
  ledger.Cut(0);
  ExpectCounts(ledger, 0, 0, 0);
}

TEST(LedgerTest, AResumedJobGoesOnAfterItsCheckpoint) {
  Ledger ledger(50, 400);
  ExpectCounts(ledger, 400, 0, 0);
  EXPECT_EQ(ledger.contiguous_step(), 50u);
  ledger.Add(Record(50, {{392, 400}}));  // before its own history
  ledger.Add(Record(51, {{400, 408}}));
  ExpectCounts(ledger, 408, 0, 0);
  Ledger wrong(50, 400);
  wrong.Add(Record(51, {{396, 404}}));
  ExpectCounts(wrong, 404, 4, 0);
}

}  // namespace
}  // namespace penstock
