#include "services/checkpoint/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/checkpoint/checkpoint_fixture.h"
#include "services/storage/fake_blobs.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kFolder[] = "/checkpoints/small";

class CatalogTest : public ::testing::Test {
 protected:
  void Save(uint64_t step) { ASSERT_TRUE(SaveSmallCheckpoint(blobs_, kFolder, step, SmallState(step)).ok()); }
  void CutManifest(uint64_t step) {
    auto* file = blobs_.MutableFile(kFolder + ("/step-0000000" + std::to_string(step)) + "/manifest.json");
    ASSERT_NE(file, nullptr);
    file->resize(100);
  }
  std::vector<uint64_t> Steps() {
    std::vector<uint64_t> steps;
    const auto list = ListCheckpoints(blobs_, kFolder);
    EXPECT_TRUE(list.ok());
    for (const CheckpointInfo& info : *list) steps.push_back(info.step);
    return steps;
  }

  FakeBlobs blobs_;
};

TEST_F(CatalogTest, ListsTheNewestFirst) {
  Save(2);
  Save(4);
  Save(3);
  EXPECT_THAT(Steps(), ElementsAre(4, 3, 2));
  const CheckpointInfo info = ListCheckpoints(blobs_, kFolder)->front();
  EXPECT_EQ(info.path, "/checkpoints/small/step-00000004");
  EXPECT_TRUE(info.status.ok());
  EXPECT_EQ(info.job_name, "small");
  EXPECT_EQ(info.samples_consumed, 128u);
  EXPECT_EQ(info.digest, SmallManifest(4, SmallState(4)).digest);
  EXPECT_GT(info.bytes, static_cast<uint64_t>(SmallTable().size()) * 12);
}

TEST_F(CatalogTest, OnlyCheckpointsAreListed) {
  Save(2);
  ASSERT_TRUE(blobs_.CreateFolders("/checkpoints/small/step-00000003.partial").ok());
  ASSERT_TRUE(blobs_.CreateFolders("/checkpoints/small/step-4").ok());
  ASSERT_TRUE(blobs_.CreateFolders("/checkpoints/small/step--0000004").ok());
  ASSERT_TRUE(blobs_.CreateFolders("/checkpoints/small/notes").ok());
  ASSERT_TRUE(blobs_.WriteAtomic("/checkpoints/small/step-00000005", "a file").ok());
  EXPECT_THAT(Steps(), ElementsAre(2));
}

TEST_F(CatalogTest, TheNewestGoodOneIsFound) {
  EXPECT_TRUE(absl::IsNotFound(FindNewestCheckpoint(blobs_, kFolder).status()));
  ASSERT_TRUE(blobs_.CreateFolders(kFolder).ok());
  EXPECT_TRUE(absl::IsNotFound(FindNewestCheckpoint(blobs_, kFolder).status()));
  Save(2);
  Save(4);
  EXPECT_EQ(FindNewestCheckpoint(blobs_, kFolder)->step, 4u);
  CutManifest(4);
  EXPECT_EQ(FindNewestCheckpoint(blobs_, kFolder)->step, 2u);
  CutManifest(2);
  const auto none = FindNewestCheckpoint(blobs_, kFolder);
  EXPECT_TRUE(absl::IsNotFound(none.status()));
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("step-00000004/manifest.json: the manifest is cut"));
}

TEST_F(CatalogTest, AFolderUnderAnotherStepsNameIsNotUsed) {
  Save(2);
  ASSERT_TRUE(blobs_.Rename("/checkpoints/small/step-00000002", "/checkpoints/small/step-00000009").ok());
  EXPECT_TRUE(absl::IsNotFound(FindNewestCheckpoint(blobs_, kFolder).status()));
}

TEST_F(CatalogTest, RetentionDeletesTheOldestCompleteOnes) {
  for (uint64_t step = 1; step <= 5; ++step) Save(step);
  CutManifest(4);
  ASSERT_TRUE(ApplyRetention(blobs_, kFolder, 0, 5).ok());
  EXPECT_THAT(Steps(), ElementsAre(5, 4, 3, 2, 1));
  // The damaged one counts for nothing and stays.
  ASSERT_TRUE(ApplyRetention(blobs_, kFolder, 2, 5).ok());
  EXPECT_THAT(Steps(), ElementsAre(5, 4, 3));
  ASSERT_TRUE(ApplyRetention(blobs_, kFolder, 9, 5).ok());
  EXPECT_THAT(Steps(), ElementsAre(5, 4, 3));
  EXPECT_EQ(blobs_.List(kFolder)->size(), 3u);
}

TEST_F(CatalogTest, ARunThatBeganAnewKeepsWhatItWroteAndWhatTheEarlierRunLeft) {
  for (uint64_t step : {200, 300, 400}) Save(step);
  Save(10);
  ASSERT_TRUE(ApplyRetention(blobs_, kFolder, 1, 10).ok());
  EXPECT_THAT(Steps(), ElementsAre(400, 300, 200, 10));
  Save(20);
  ASSERT_TRUE(ApplyRetention(blobs_, kFolder, 1, 20).ok());
  EXPECT_THAT(Steps(), ElementsAre(400, 300, 200, 20));
}

TEST_F(CatalogTest, ADeletionThatWasCutShortIsFinished) {
  Save(1);
  ASSERT_TRUE(blobs_.Rename("/checkpoints/small/step-00000001", "/checkpoints/small/step-00000001.deleted").ok());
  Save(2);
  EXPECT_THAT(Steps(), ElementsAre(2));
  ASSERT_TRUE(ApplyRetention(blobs_, kFolder, 3, 2).ok());
  EXPECT_EQ(blobs_.List(kFolder)->size(), 1u);
}

TEST_F(CatalogTest, FolderOfAJob) { EXPECT_EQ(JobCheckpointFolder("/checkpoints", "small"), kFolder); }

}  // namespace
}  // namespace penstock
