#include "services/checkpoint/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "services/checkpoint/catalog.h"
#include "services/checkpoint/checkpoint_fixture.h"
#include "services/checkpoint/reader.h"
#include "services/storage/fake_blobs.h"
#include "services/storage/safetensors.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr char kFolder[] = "/checkpoints/small";

std::vector<std::string> Names(Blobs& blobs, const std::string& folder) {
  std::vector<std::string> names;
  const auto list = blobs.List(folder);
  if (list.ok()) {
    for (const BlobEntry& entry : *list) names.push_back(entry.name);
  }
  return names;
}

TEST(WriterTest, BytesDoNotDependOnTheShards) {
  const SmallState state(1);
  FakeBlobs one, three;
  const auto a = SaveSmallCheckpoint(one, kFolder, 100, state, 1);
  const auto b = SaveSmallCheckpoint(three, kFolder, 100, state, 3);
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  EXPECT_EQ(*a, "/checkpoints/small/step-00000100");
  ASSERT_EQ(Names(one, *a), Names(three, *b));
  EXPECT_EQ(Names(one, *a).size(), 5u);
  for (const std::string& name : Names(one, *a)) {
    EXPECT_EQ(*one.MutableFile(JoinPath(*a, name)), *three.MutableFile(JoinPath(*b, name))) << name;
  }
  EXPECT_EQ(Names(one, kFolder), std::vector<std::string>{"step-00000100"});
}

TEST(WriterTest, FilesAreSafetensorsUnderTheTablesNames) {
  const SmallState state(1);
  FakeBlobs blobs;
  const auto path = SaveSmallCheckpoint(blobs, kFolder, 100, state);
  ASSERT_TRUE(path.ok());
  const auto file = SafetensorsFile::Open(blobs, JoinPath(*path, "exp_avg-00001-of-00001.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  const ParameterTable table = SmallTable();
  const Parameter& parameter = *table.Find("h.1.mlp.fc.weight");
  std::vector<float> values(static_cast<size_t>(parameter.size()));
  ASSERT_TRUE(file->ReadFloats(parameter.name, 0, values).ok());
  const auto expected = state[StateClass::kExpAvg].subspan(parameter.begin, parameter.size());
  EXPECT_TRUE(std::equal(values.begin(), values.end(), expected.begin(), expected.end()));
}

TEST(WriterTest, WhatIsWrittenIsOnTheDisk) {
  FakeBlobs blobs;
  const auto path = SaveSmallCheckpoint(blobs, kFolder, 100, SmallState(1));
  ASSERT_TRUE(path.ok());
  blobs.LosePower();
  EXPECT_TRUE(VerifyCheckpoint(blobs, *path, nullptr).ok());
}

TEST(WriterTest, FullDiskInTheMiddleLeavesThePreviousOneGood) {
  FakeBlobs blobs;
  ASSERT_TRUE(SaveSmallCheckpoint(blobs, kFolder, 100, SmallState(1)).ok());
  const uint64_t bytes = ListCheckpoints(blobs, kFolder)->front().bytes;
  // At many points: while the headers, the ranges or the manifest are written.
  for (uint64_t free = 0; free <= bytes; free += bytes / 13) {
    blobs.FillDiskAfter(free);
    const auto second = SaveSmallCheckpoint(blobs, kFolder, 200, SmallState(2));
    ASSERT_TRUE(absl::IsResourceExhausted(second.status())) << free << ": " << second.status();
    EXPECT_THAT(std::string(second.status().message()), HasSubstr(kFolder));
    blobs.FreeDisk();
    const auto newest = FindNewestCheckpoint(blobs, kFolder);
    ASSERT_TRUE(newest.ok());
    EXPECT_EQ(newest->step, 100u);
    EXPECT_TRUE(VerifyCheckpoint(blobs, newest->path, nullptr).ok());
  }
  // What they left behind is in nobody's way.
  const auto second = SaveSmallCheckpoint(blobs, kFolder, 200, SmallState(2));
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(VerifyCheckpoint(blobs, *second, nullptr).ok());
  EXPECT_EQ(Names(blobs, kFolder), (std::vector<std::string>{"step-00000100", "step-00000200"}));
}

TEST(WriterTest, ADiskThatCanReserveSaysNoBeforeTheFirstByte) {
  FakeBlobs blobs;
  blobs.FillDiskAfter(1'000'000, /*reserve=*/true);
  const auto partial = PrepareCheckpoint(blobs, kFolder, 100, SmallTable());
  EXPECT_TRUE(absl::IsResourceExhausted(partial.status()));
  EXPECT_THAT(std::string(partial.status().message()), HasSubstr("the checkpoint of step 100 needs "));
  EXPECT_TRUE(Names(blobs, kFolder).empty());
}

TEST(WriterTest, AFailedSyncIsNeverForgotten) {
  FakeBlobs blobs;
  const ParameterTable table = SmallTable();
  const auto partial = PrepareCheckpoint(blobs, kFolder, 100, table);
  ASSERT_TRUE(partial.ok());
  const auto writer = CheckpointWriter::Open(blobs, *partial, table);
  ASSERT_TRUE(writer.ok());
  const SmallState state(1);
  ASSERT_TRUE((*writer)->WriteRange(StateClass::kWeights, 0, state[StateClass::kWeights]).ok());
  blobs.BreakNextSync(JoinPath(*partial, "weights-00001-of-00001.safetensors"));
  EXPECT_TRUE(absl::IsDataLoss((*writer)->Sync()));
  EXPECT_TRUE(absl::IsDataLoss((*writer)->Sync()));
}

TEST(WriterTest, RangesOutsideTheModelAreRefused) {
  FakeBlobs blobs;
  const ParameterTable table = SmallTable();
  const auto partial = PrepareCheckpoint(blobs, kFolder, 100, table);
  const auto writer = CheckpointWriter::Open(blobs, *partial, table);
  ASSERT_TRUE(writer.ok());
  const std::vector<float> two = {1, 2};
  EXPECT_TRUE((*writer)->WriteRange(StateClass::kWeights, table.size() - 2, two).ok());
  EXPECT_TRUE(absl::IsOutOfRange((*writer)->WriteRange(StateClass::kWeights, table.size() - 1, two)));
  EXPECT_TRUE(absl::IsOutOfRange((*writer)->WriteRange(StateClass::kWeights, -1, two)));
  EXPECT_TRUE(
      absl::IsOutOfRange((*writer)->WriteRange(StateClass::kWeights, std::numeric_limits<int64_t>::max(), two)));
}

TEST(WriterTest, OnlyAFolderPreparedForTheModelIsWritten) {
  FakeBlobs blobs;
  const ParameterTable table = SmallTable();
  EXPECT_TRUE(absl::IsNotFound(CheckpointWriter::Open(blobs, "/no/step-00000001.partial", table).status()));
  const auto whole = SaveSmallCheckpoint(blobs, kFolder, 100, SmallState(1));
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckpointWriter::Open(blobs, *whole, table).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(AbandonCheckpoint(blobs, *whole)));
  const auto partial = PrepareCheckpoint(blobs, kFolder, 200, table);
  v1::ModelSpec other = SmallJob().model();
  other.set_layers(3);
  EXPECT_TRUE(
      absl::IsFailedPrecondition(CheckpointWriter::Open(blobs, *partial, *ParameterTable::Create(other)).status()));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(FinishCheckpoint(blobs, *partial, SmallManifest(300, SmallState(1))).status()));
  EXPECT_TRUE(AbandonCheckpoint(blobs, *partial).ok());
  EXPECT_TRUE(AbandonCheckpoint(blobs, *partial).ok());
  EXPECT_EQ(Names(blobs, kFolder), std::vector<std::string>{"step-00000100"});
}

TEST(WriterTest, TheSameStepAgainReplaces) {
  FakeBlobs blobs;
  ASSERT_TRUE(SaveSmallCheckpoint(blobs, kFolder, 100, SmallState(1)).ok());
  const SmallState again(2);
  const auto path = SaveSmallCheckpoint(blobs, kFolder, 100, again);
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(VerifyCheckpoint(blobs, *path, nullptr)->digest, SmallManifest(100, again).digest);
  EXPECT_EQ(Names(blobs, kFolder), std::vector<std::string>{"step-00000100"});
}

TEST(WriterTest, OnARealDisk) {
  const std::string folder = JoinPath(::testing::TempDir(), "writer_test/small");
  Blobs& disk = LocalDisk();
  ASSERT_TRUE(disk.RemoveTree(folder).ok());
  for (uint64_t step = 1; step <= 3; ++step) {
    const auto path = SaveSmallCheckpoint(disk, folder, step, SmallState(step));
    ASSERT_TRUE(path.ok()) << path.status();
    ASSERT_TRUE(ApplyRetention(disk, folder, 2, step).ok());
  }
  EXPECT_EQ(Names(disk, folder), (std::vector<std::string>{"step-00000002", "step-00000003"}));
  const auto newest = FindNewestCheckpoint(disk, folder);
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ(VerifyCheckpoint(disk, newest->path, nullptr)->digest, SmallManifest(3, SmallState(3)).digest);
  // The same step again, over the one that is there.
  EXPECT_TRUE(SaveSmallCheckpoint(disk, folder, 3, SmallState(3)).ok());
  EXPECT_EQ(Names(disk, folder), (std::vector<std::string>{"step-00000002", "step-00000003"}));
}

}  // namespace
}  // namespace penstock
