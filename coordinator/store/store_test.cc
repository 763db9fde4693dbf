// What every Store promises: the same tests over SQLite and over the fake.
#include "coordinator/store/store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>

#include "coordinator/store/fake_store.h"
#include "coordinator/store/sqlite_store.h"

namespace penstock {
namespace {

constexpr absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

StoredJob MakeJob(const std::string& id) {
  StoredJob job;
  job.id = id;
  job.request_id = "request-" + id;
  job.spec.set_name("name-" + id);
  job.spec.mutable_training()->set_steps(10);
  job.submitted_at = kNow;
  return job;
}

PersistedJob AtEpoch(uint64_t epoch) {
  PersistedJob job;
  job.state = v1::JOB_STATE_STARTING;
  job.epoch = epoch;
  return job;
}

std::vector<v1::StepRecord> Records(uint64_t begin, uint64_t end, double loss) {
  std::vector<v1::StepRecord> records;
  for (uint64_t step = begin; step < end; ++step) {
    v1::StepRecord& record = records.emplace_back();
    record.set_step(step);
    record.set_loss(loss);
  }
  return records;
}

class StoreTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!GetParam()) {
      store_ = std::make_unique<FakeStore>();
      return;
    }
    std::string folder = testing::TempDir() + "storeXXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    auto store = SqliteStore::Open(folder_ + "/store");
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void TearDown() override {
    store_.reset();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  std::string folder_;
  std::unique_ptr<Store> store_;
};

TEST_P(StoreTest, JobsComeBackInTheOrderOfSubmission) {
  ASSERT_TRUE(store_->AddJob(MakeJob("b")).ok());
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  const auto jobs = store_->LoadJobs();
  ASSERT_TRUE(jobs.ok()) << jobs.status();
  ASSERT_EQ(jobs->size(), 2u);
  EXPECT_EQ((*jobs)[0].id, "b");
  EXPECT_EQ((*jobs)[1].id, "a");
  EXPECT_EQ((*jobs)[0].request_id, "request-b");
  EXPECT_EQ((*jobs)[0].spec.name(), "name-b");
  EXPECT_EQ((*jobs)[0].submitted_at, kNow);
  EXPECT_EQ((*jobs)[0].persisted.state, v1::JOB_STATE_PENDING);
  EXPECT_TRUE((*jobs)[0].shards.empty());
}

TEST_P(StoreTest, AnIdOrRequestIdIsTakenOnce) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  EXPECT_EQ(store_->AddJob(MakeJob("a")).code(), absl::StatusCode::kAlreadyExists);
  StoredJob other = MakeJob("b");
  other.request_id = "request-a";
  EXPECT_EQ(store_->AddJob(other).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(store_->LoadJobs()->size(), 1u);
}

TEST_P(StoreTest, AnEpochIsTakenByOneCoordinatorAndOnce) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  EXPECT_TRUE(store_->PersistEpoch("a", "first", AtEpoch(1), kNow).ok());
  // The same one asks again because the answer was lost.
  EXPECT_TRUE(store_->PersistEpoch("a", "first", AtEpoch(1), kNow).ok());
  EXPECT_EQ(store_->PersistEpoch("a", "second", AtEpoch(1), kNow).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(store_->PersistEpoch("a", "second", AtEpoch(2), kNow).ok());
  EXPECT_EQ(store_->PersistEpoch("a", "first", AtEpoch(1), kNow).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->PersistEpoch("a", "first", AtEpoch(4), kNow).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->PersistEpoch("x", "first", AtEpoch(1), kNow).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*store_->LoadJobs())[0].persisted.epoch, 2u);
}

TEST_P(StoreTest, AJobIsWrittenUnderItsEpochOnly) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  ASSERT_TRUE(store_->PersistEpoch("a", "first", AtEpoch(1), kNow).ok());
  PersistedJob job = AtEpoch(1);
  job.state = v1::JOB_STATE_RUNNING;
  job.message = "a 'quoted' message";
  job.open_epoch = 1;
  job.recoveries = 2;
  job.recoveries_without_progress = 1;
  job.finished = true;
  job.shards_open = true;
  job.base_step = 40;
  v1::JobStatus shown;
  shown.set_digest("00ff");
  ASSERT_TRUE(store_->WriteJob("a", job, shown).ok());
  const StoredJob stored = (*store_->LoadJobs())[0];
  EXPECT_EQ(stored.persisted.state, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(stored.persisted.message, "a 'quoted' message");
  EXPECT_EQ(stored.persisted.open_epoch, 1u);
  EXPECT_EQ(stored.persisted.recoveries, 2u);
  EXPECT_EQ(stored.persisted.recoveries_without_progress, 1u);
  EXPECT_TRUE(stored.persisted.finished);
  EXPECT_TRUE(stored.persisted.shards_open);
  EXPECT_EQ(stored.persisted.base_step, 40u);
  EXPECT_EQ(stored.shown.digest(), "00ff");

  EXPECT_EQ(store_->WriteJob("x", job, shown).code(), absl::StatusCode::kNotFound);
  // A new epoch leaves what is shown as it was.
  ASSERT_TRUE(store_->PersistEpoch("a", "first", AtEpoch(2), kNow).ok());
  EXPECT_EQ((*store_->LoadJobs())[0].shown.digest(), "00ff");
  EXPECT_EQ(store_->WriteJob("a", job, shown).code(), absl::StatusCode::kFailedPrecondition) << "epoch 1 is past";
  job.epoch = 3;
  EXPECT_EQ(store_->WriteJob("a", job, shown).code(), absl::StatusCode::kFailedPrecondition) << "3 isn't taken yet";
  job.epoch = 2;
  job.state = v1::JOB_STATE_CANCELLED;
  EXPECT_TRUE(store_->WriteJob("a", job, shown).ok());
  // And what has ended stays so.
  EXPECT_EQ(store_->PersistEpoch("a", "first", AtEpoch(3), kNow).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_P(StoreTest, APastEpochWritesNoHistory) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  ASSERT_TRUE(store_->PersistEpoch("a", "first", AtEpoch(1), kNow).ok());
  ASSERT_TRUE(store_->WriteSteps("a", 1, Records(1, 3, 1.0), true).ok());
  ASSERT_TRUE(store_->PersistEpoch("a", "second", AtEpoch(2), kNow).ok());
  EXPECT_EQ(store_->WriteSteps("a", 1, Records(3, 4, 1.0), true).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->WriteValidation("a", 1, 1, 1.0).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->CutSteps("a", 1, 0).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->ReadSteps("a", 0, 10)->size(), 2u);
  EXPECT_TRUE(store_->WriteSteps("a", 2, Records(3, 4, 1.0), true).ok());
  EXPECT_TRUE(store_->CutSteps("a", 2, 1).ok());
}

TEST_P(StoreTest, ShardsKeepTheirOrder) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  const std::vector<std::string> shards = {"params-1", "params-0"};
  ASSERT_TRUE(store_->WriteShards("a", shards).ok());
  EXPECT_EQ((*store_->LoadJobs())[0].shards, shards);
  EXPECT_EQ(store_->WriteShards("x", shards).code(), absl::StatusCode::kNotFound);
}

TEST_P(StoreTest, HistoryIsReadInPagesAndCut) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  ASSERT_TRUE(store_->WriteSteps("a", 1, Records(1, 8, 2.0), true).ok());
  ASSERT_TRUE(store_->WriteValidation("a", 1, 2, 1.5).ok());
  ASSERT_TRUE(store_->WriteValidation("a", 1, 7, 1.25).ok());
  ASSERT_TRUE(store_->AddCheckpoint("a", {4, "/c/4"}).ok());
  ASSERT_TRUE(store_->AddCheckpoint("a", {6, "/c/6"}).ok());
  const auto page = store_->ReadSteps("a", 2, 3);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->size(), 3u);
  EXPECT_EQ((*page)[0].step(), 2u);
  EXPECT_EQ((*page)[0].validation_loss(), 1.5);
  EXPECT_FALSE((*page)[1].has_validation_loss());
  EXPECT_EQ((*page)[2].step(), 4u);
  EXPECT_EQ((*store_->ReadCheckpoints("a"))[0].path, "/c/6");

  ASSERT_TRUE(store_->CutSteps("a", 1, 5).ok());
  EXPECT_EQ(store_->ReadSteps("a", 0, 100)->size(), 5u);
  ASSERT_EQ(store_->ReadCheckpoints("a")->size(), 1u);
  EXPECT_EQ((*store_->ReadCheckpoints("a"))[0].step, 4u);
  // The cut validation doesn't come back with the step.
  ASSERT_TRUE(store_->WriteSteps("a", 1, Records(6, 8, 2.0), true).ok());
  EXPECT_FALSE(store_->ReadSteps("a", 7, 1)->front().has_validation_loss());
}

TEST_P(StoreTest, AFetchedRecordDoesNotReplaceAReportedOne) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  ASSERT_TRUE(store_->WriteSteps("a", 1, Records(1, 2, 1.0), true).ok());
  ASSERT_TRUE(store_->WriteSteps("a", 1, Records(1, 3, 2.0), false).ok());
  EXPECT_EQ((*store_->ReadSteps("a", 1, 10))[0].loss(), 1.0);
  EXPECT_EQ((*store_->ReadSteps("a", 1, 10))[1].loss(), 2.0);
  ASSERT_TRUE(store_->WriteSteps("a", 1, Records(1, 2, 3.0), true).ok());
  EXPECT_EQ((*store_->ReadSteps("a", 1, 10))[0].loss(), 3.0);
}

TEST_P(StoreTest, NothingIsWrittenForAJobThatIsNotThere) {
  EXPECT_EQ(store_->WriteSteps("x", 1, Records(1, 2, 1.0), true).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->WriteValidation("x", 1, 1, 1.0).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->CutSteps("x", 1, 1).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->AddCheckpoint("x", {1, "/c"}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->WriteShown("x", {}).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(store_->ReadSteps("x", 0, 10)->empty());
}

TEST_P(StoreTest, EventsAreBoundedAndOldestFirst) {
  std::vector<StoredEvent> events;
  for (uint64_t i = 0; i < kStoredEventsMax + 5; ++i) {
    events.push_back({kNow + absl::Seconds(i), i % 2 == 0 ? "a" : "", i, "event " + std::to_string(i)});
  }
  ASSERT_TRUE(store_->AddEvents(events).ok());
  const auto all = store_->ReadEvents("", kStoredEventsMax * 2);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), kStoredEventsMax);
  EXPECT_EQ(all->front().message, "event 5");
  EXPECT_EQ(all->back().message, events.back().message);
  EXPECT_EQ(all->back().time, events.back().time);
  const auto of_job = store_->ReadEvents("a", 2);
  ASSERT_EQ(of_job->size(), 2u);
  EXPECT_EQ((*of_job)[1].epoch, kStoredEventsMax + 4);
  EXPECT_LT((*of_job)[0].epoch, (*of_job)[1].epoch);
}

TEST_P(StoreTest, ARemovedJobIsGoneWithAllThatIsItsOwn) {
  ASSERT_TRUE(store_->AddJob(MakeJob("a")).ok());
  ASSERT_TRUE(store_->AddJob(MakeJob("b")).ok());
  ASSERT_TRUE(store_->WriteSteps("a", 1, Records(1, 3, 1.0), true).ok());
  ASSERT_TRUE(store_->WriteSteps("b", 1, Records(1, 3, 1.0), true).ok());
  const std::vector<StoredEvent> events = {{kNow, "a", 1, "one"}, {kNow, "b", 1, "two"}};
  ASSERT_TRUE(store_->AddEvents(events).ok());
  ASSERT_TRUE(store_->RemoveJob("a").ok());
  ASSERT_TRUE(store_->RemoveJob("a").ok());
  EXPECT_EQ(store_->LoadJobs()->size(), 1u);
  EXPECT_TRUE(store_->ReadSteps("a", 0, 10)->empty());
  EXPECT_EQ(store_->ReadSteps("b", 0, 10)->size(), 2u);
  ASSERT_EQ(store_->ReadEvents("", 10)->size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(All, StoreTest, testing::Values(true, false),
                         [](const auto& info) { return info.param ? "Sqlite" : "Fake"; });

}  // namespace
}  // namespace penstock
