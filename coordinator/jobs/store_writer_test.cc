#include "coordinator/jobs/store_writer.h"

#include <gtest/gtest.h>

#include "coordinator/store/fake_store.h"

namespace penstock {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

class StoreWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    StoredJob job;
    job.id = "a";
    job.request_id = "r";
    ASSERT_TRUE(store_.AddJob(job).ok());
  }
  static std::vector<v1::StepRecord> Step(uint64_t step) {
    std::vector<v1::StepRecord> records(1);
    records[0].set_step(step);
    return records;
  }

  FakeStore store_;
};

TEST_F(StoreWriterTest, EverythingIsWrittenInTheOrderInWhichItWasTold) {
  StoreWriter writer(&store_, StoreWriter::Mode::kThread);
  for (uint64_t step = 1; step <= 1000; ++step) writer.AddSteps("a", 0, Step(step), true);
  size_t seen = 0;
  writer.Write([&seen](Store& store) {
    seen = store.ReadSteps("a", 0, 10'000)->size();
    return store.CutSteps("a", 0, 500);
  });
  writer.AddSteps("a", 0, Step(501), true);
  writer.AddEvent({absl::UnixEpoch(), "a", 0, "one"});
  writer.AddEvent({absl::UnixEpoch(), "a", 0, "two"});
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_EQ(seen, 1000u);
  EXPECT_EQ(store_.ReadSteps("a", 0, 10'000)->size(), 501u);
  const auto events = store_.ReadEvents("a", 10);
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ((*events)[0].message, "one");
}

TEST_F(StoreWriterTest, WhatMayPassIsTriedAgainAndTheRestWaits) {
  StoreWriter writer(&store_, StoreWriter::Mode::kThread);
  store_.FailWrites(2, absl::ResourceExhaustedError("the disk is full"));
  writer.AddSteps("a", 0, Step(1), true);
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_EQ(store_.ReadSteps("a", 0, 10)->size(), 1u);
}

TEST_F(StoreWriterTest, WhatCannotPassIsReported) {
  StoreWriter writer(&store_, StoreWriter::Mode::kThread);
  absl::Status of_write, of_once;
  writer.Write([](Store& store) { return store.CutSteps("nobody", 0, 1); },
               [&of_write](const absl::Status& status) { of_write = status; });
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_EQ(of_write.code(), absl::StatusCode::kNotFound);
  store_.FailWrites(1, absl::UnavailableError("locked"));
  writer.WriteOnce([](Store& store) { return store.CutSteps("a", 0, 1); },
                   [&of_once](const absl::Status& status) { of_once = status; });
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_EQ(of_once.code(), absl::StatusCode::kUnavailable) << "once means once";
}

TEST_F(StoreWriterTest, WhatWaitsIsWrittenBeforeItGoes) {
  {
    StoreWriter writer(&store_, StoreWriter::Mode::kThread);
    for (uint64_t step = 1; step <= 100; ++step) writer.AddSteps("a", 0, Step(step), true);
  }
  EXPECT_EQ(store_.ReadSteps("a", 0, 1000)->size(), 100u);
}

TEST_F(StoreWriterTest, AStoreThatStaysFullDoesNotKeepTheProcessFromEnding) {
  StoreWriter writer(&store_, StoreWriter::Mode::kThread);
  store_.FailWrites(1'000'000, absl::ResourceExhaustedError("the disk is full"));
  writer.AddSteps("a", 0, Step(1), true);
  EXPECT_FALSE(writer.Flush(absl::Milliseconds(100)));
}

}  // namespace
}  // namespace penstock
