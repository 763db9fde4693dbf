#include "services/storage/blobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>

#include "services/storage/fake_blobs.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string Read(Blobs& blobs, const std::string& path) {
  const auto text = ReadWholeBlob(blobs, path, 1 << 20);
  return text.ok() ? *text : text.status().ToString();
}

// Both kinds must behave the same, or tests with the fake prove nothing.
class BlobsTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      std::string folder = ::testing::TempDir() + "/blobs-XXXXXX";
      ASSERT_NE(::mkdtemp(folder.data()), nullptr);
      root_ = folder;
      blobs_ = &LocalDisk();
    } else {
      root_ = "/root";
      blobs_ = &fake_;
      ASSERT_TRUE(fake_.CreateFolders(root_).ok());
    }
  }
  void TearDown() override {
    if (GetParam()) std::filesystem::remove_all(root_);
  }
  std::string Path(std::string_view name) const { return JoinPath(root_, name); }

  FakeBlobs fake_;
  Blobs* blobs_ = nullptr;
  std::string root_;
};

TEST_P(BlobsTest, SizedFileIsZerosThenWhatWasWritten) {
  const std::string path = Path("a");
  ASSERT_TRUE(blobs_->CreateSized(path, 10).ok());
  EXPECT_EQ(*blobs_->Size(path), 10u);
  ASSERT_TRUE(blobs_->WriteAt(path, 3, Bytes("xyz")).ok());
  ASSERT_TRUE(blobs_->Sync(path).ok());
  EXPECT_EQ(Read(*blobs_, path), std::string("\0\0\0xyz\0\0\0\0", 10));
  std::string part(3, ' ');
  ASSERT_TRUE(blobs_->ReadAt(path, 4, std::as_writable_bytes(std::span(part))).ok());
  EXPECT_EQ(part, std::string("yz\0", 3));
  // Made again, it is empty again.
  ASSERT_TRUE(blobs_->CreateSized(path, 2).ok());
  EXPECT_EQ(Read(*blobs_, path), std::string(2, '\0'));
}

TEST_P(BlobsTest, WhatIsNotThereIsNotFound) {
  std::byte byte{};
  EXPECT_TRUE(absl::IsNotFound(blobs_->Size(Path("no")).status()));
  EXPECT_TRUE(absl::IsNotFound(blobs_->ReadAt(Path("no"), 0, {&byte, 1})));
  EXPECT_TRUE(absl::IsNotFound(blobs_->WriteAt(Path("no"), 0, {&byte, 1})));
  EXPECT_TRUE(absl::IsNotFound(blobs_->List(Path("no")).status()));
  EXPECT_TRUE(absl::IsNotFound(blobs_->Rename(Path("no"), Path("other"))));
  EXPECT_TRUE(absl::IsNotFound(blobs_->Sync(Path("no"))));
  EXPECT_TRUE(absl::IsNotFound(blobs_->CreateSized(Path("no/file"), 1)));
  EXPECT_TRUE(absl::IsNotFound(blobs_->WriteAtomic(Path("no/file"), "x")));
  EXPECT_TRUE(blobs_->RemoveTree(Path("no")).ok());
  EXPECT_THAT(std::string(blobs_->Size(Path("no")).status().message()), HasSubstr(Path("no")));
}

TEST_P(BlobsTest, ReadPastTheEndIsOutOfRange) {
  ASSERT_TRUE(blobs_->CreateSized(Path("a"), 4).ok());
  std::array<std::byte, 3> out;
  EXPECT_TRUE(absl::IsOutOfRange(blobs_->ReadAt(Path("a"), 2, out)));
  EXPECT_TRUE(absl::IsOutOfRange(blobs_->ReadAt(Path("a"), uint64_t{1} << 63, out)));
}

TEST_P(BlobsTest, FoldersListRenameAndRemove) {
  ASSERT_TRUE(blobs_->CreateFolders(Path("x/y")).ok());
  ASSERT_TRUE(blobs_->CreateFolders(Path("x/y")).ok());
  ASSERT_TRUE(blobs_->WriteAtomic(Path("x/b"), "b").ok());
  ASSERT_TRUE(blobs_->WriteAtomic(Path("x/y/c"), "c").ok());
  auto list = blobs_->List(Path("x"));
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 2u);
  EXPECT_EQ((*list)[0].name, "b");
  EXPECT_FALSE((*list)[0].is_folder);
  EXPECT_EQ((*list)[1].name, "y");
  EXPECT_TRUE((*list)[1].is_folder);
  EXPECT_FALSE(blobs_->Size(Path("x/y")).ok());

  ASSERT_TRUE(blobs_->Rename(Path("x"), Path("z")).ok());
  EXPECT_EQ(Read(*blobs_, Path("z/y/c")), "c");
  EXPECT_TRUE(absl::IsNotFound(blobs_->List(Path("x")).status()));
  // A folder with something in it is in nobody's way to be replaced.
  ASSERT_TRUE(blobs_->CreateFolders(Path("x")).ok());
  EXPECT_FALSE(blobs_->Rename(Path("x"), Path("z")).ok());
  ASSERT_TRUE(blobs_->RemoveTree(Path("z")).ok());
  EXPECT_TRUE(absl::IsNotFound(blobs_->Size(Path("z/y/c")).status()));
  EXPECT_EQ(blobs_->CreateFolders(Path("x/y")).code(), absl::StatusCode::kOk);
}

TEST_P(BlobsTest, AFileInTheWayOfAFolderIsRefused) {
  ASSERT_TRUE(blobs_->WriteAtomic(Path("a"), "a").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(blobs_->CreateFolders(Path("a"))));
  EXPECT_TRUE(absl::IsFailedPrecondition(blobs_->CreateFolders(Path("a/b/c"))));
}

TEST_P(BlobsTest, WriteAtomicReplacesAndLeavesNothingElse) {
  ASSERT_TRUE(blobs_->WriteAtomic(Path("a"), "old").ok());
  ASSERT_TRUE(blobs_->WriteAtomic(Path("a"), "new text").ok());
  EXPECT_EQ(Read(*blobs_, Path("a")), "new text");
  EXPECT_EQ(blobs_->List(root_)->size(), 1u);
  // A folder in the way fails, and leaves nothing of it.
  ASSERT_TRUE(blobs_->CreateFolders(Path("folder/inner")).ok());
  if (GetParam()) {
    EXPECT_FALSE(blobs_->WriteAtomic(Path("folder"), "x").ok());
  }
  EXPECT_EQ(blobs_->List(root_)->size(), 2u);
}

TEST_P(BlobsTest, WholeBlobHasALimit) {
  ASSERT_TRUE(blobs_->WriteAtomic(Path("a"), "12345").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(ReadWholeBlob(*blobs_, Path("a"), 4).status()));
  EXPECT_EQ(*ReadWholeBlob(*blobs_, Path("a"), 5), "12345");
}

INSTANTIATE_TEST_SUITE_P(Kinds, BlobsTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "LocalDisk" : "Fake"; });

TEST(LocalDiskTest, AFullDeviceIsResourceExhausted) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  const absl::Status status = LocalDisk().WriteAt("/dev/full", 0, Bytes("x"));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("/dev/full: can't write 1 bytes"));
}

TEST(LocalDiskTest, MoreThanTheDiskHoldsIsRefusedAtOnceAndLeavesNothing) {
  const std::string path = JoinPath(::testing::TempDir(), "huge");
  const absl::Status status = LocalDisk().CreateSized(path, uint64_t{1} << 55);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("36028797018963968 bytes"));
  EXPECT_TRUE(absl::IsNotFound(LocalDisk().Size(path).status()));
}

TEST(LocalDiskTest, NoPathIsRefused) {
  EXPECT_FALSE(LocalDisk().CreateSized("", 1).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(LocalDisk().CreateSized(std::string("/tmp/a\0b", 8), 1)));
}

TEST(FakeBlobsTest, FullDiskKeepsThePartThatFits) {
  FakeBlobs blobs;
  ASSERT_TRUE(blobs.CreateFolders("/d").ok());
  blobs.FillDiskAfter(4);
  ASSERT_TRUE(blobs.CreateSized("/d/a", 6).ok());
  const absl::Status status = blobs.WriteAt("/d/a", 0, Bytes("abcdef"));
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(Read(blobs, "/d/a"), std::string("abcd\0\0", 6));
  blobs.FillDiskAfter(4, /*reserve=*/true);
  EXPECT_TRUE(absl::IsResourceExhausted(blobs.CreateSized("/d/b", 6)));
  blobs.FreeDisk();
  EXPECT_TRUE(blobs.CreateSized("/d/b", 6).ok());
}

TEST(FakeBlobsTest, OrderedFaultsShow) {
  FakeBlobs blobs;
  ASSERT_TRUE(blobs.CreateFolders("/d").ok());
  ASSERT_TRUE(blobs.CreateSized("/d/a", 8).ok());
  blobs.BreakReads("/d/a", 5);
  std::array<std::byte, 4> out;
  EXPECT_TRUE(blobs.ReadAt("/d/a", 0, out).ok());
  EXPECT_TRUE(absl::IsDataLoss(blobs.ReadAt("/d/a", 4, out)));
  blobs.BreakNextSync("/d/a");
  EXPECT_TRUE(absl::IsDataLoss(blobs.Sync("/d/a")));
  EXPECT_TRUE(blobs.Sync("/d/a").ok());
}

TEST(FakeBlobsTest, LostPowerTakesWhatWasNotSynchronised) {
  FakeBlobs blobs;
  ASSERT_TRUE(blobs.CreateFolders("/d").ok());
  ASSERT_TRUE(blobs.CreateSized("/d/a", 4).ok());
  ASSERT_TRUE(blobs.WriteAt("/d/a", 0, Bytes("ab")).ok());
  ASSERT_TRUE(blobs.Sync("/d/a").ok());
  ASSERT_TRUE(blobs.WriteAt("/d/a", 2, Bytes("cd")).ok());
  blobs.LosePower();
  EXPECT_EQ(Read(blobs, "/d/a"), std::string("ab\0\0", 4));
}

}  // namespace
}  // namespace penstock
