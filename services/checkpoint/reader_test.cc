#include "services/checkpoint/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "services/checkpoint/checkpoint_fixture.h"
#include "services/checkpoint/writer.h"
#include "services/storage/fake_blobs.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr char kWeightsName[] = "weights-00001-of-00001.safetensors";
constexpr char kExpAvgSqName[] = "exp_avg_sq-00001-of-00001.safetensors";

class ReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto path = SaveSmallCheckpoint(blobs_, "/checkpoints/small", 100, state_);
    ASSERT_TRUE(path.ok()) << path.status();
    path_ = *path;
  }
  std::vector<std::byte>& File(std::string_view name) { return *blobs_.MutableFile(JoinPath(path_, name)); }
  std::unique_ptr<CheckpointReader> Open() {
    auto reader = CheckpointReader::Open(blobs_, path_);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return *std::move(reader);
  }
  absl::Status OpenStatus() { return CheckpointReader::Open(blobs_, path_).status(); }

  const SmallState state_{1};
  FakeBlobs blobs_;
  std::string path_;
};

TEST_F(ReaderTest, AnyRangeOfAnyClassIsWhatWasWritten) {
  const auto reader = Open();
  EXPECT_EQ(reader->manifest().step, 100u);
  EXPECT_EQ(reader->manifest().samples_consumed, 3200u);
  const int64_t size = reader->table().size();
  const std::vector<ElementRange> ranges = {{0, size},
                                            {0, 1},
                                            {size - 1, size},
                                            {7, 7},
                                            {kPieceElements, 2 * kPieceElements},
                                            {kPieceElements - 3, 2 * kPieceElements + 5},
                                            {100, 200}};
  for (const StateClass state_class : kAllStateClasses) {
    for (const ElementRange& range : ranges) {
      std::vector<float> out(static_cast<size_t>(range.size()), -1);
      ASSERT_TRUE(reader->ReadRange(state_class, range, out).ok()) << range.ToString();
      const auto expected = state_[state_class].subspan(range.begin, range.size());
      EXPECT_TRUE(std::equal(out.begin(), out.end(), expected.begin(), expected.end())) << range.ToString();
    }
  }
  std::vector<float> out(2);
  EXPECT_TRUE(absl::IsOutOfRange(reader->ReadRange(StateClass::kWeights, {size - 1, size + 1}, out)));
  EXPECT_TRUE(absl::IsOutOfRange(reader->ReadRange(StateClass::kWeights, {-1, 1}, out)));
  EXPECT_TRUE(absl::IsInvalidArgument(reader->ReadRange(StateClass::kWeights, {0, 1}, out)));
}

TEST_F(ReaderTest, VerifyReadsItAllAndReports) {
  uint64_t last = 0, total = 0;
  const auto manifest = VerifyCheckpoint(blobs_, path_, [&](uint64_t done, uint64_t of) {
    last = done;
    total = of;
    return true;
  });
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->digest, SmallManifest(100, state_).digest);
  EXPECT_EQ(last, static_cast<uint64_t>(SmallTable().size()) * 12);
  EXPECT_EQ(total, last);
  EXPECT_TRUE(absl::IsCancelled(VerifyCheckpoint(blobs_, path_, [](uint64_t, uint64_t) { return false; }).status()));
}

TEST_F(ReaderTest, AFlippedBitIsFoundByFileAndPiece) {
  std::vector<std::byte>& file = File(kExpAvgSqName);
  const size_t header = file.size() - static_cast<size_t>(SmallTable().size()) * sizeof(float);
  file[header + (kPieceElements + 10) * sizeof(float)] ^= std::byte{1};
  const auto verified = VerifyCheckpoint(blobs_, path_, nullptr);
  EXPECT_TRUE(absl::IsDataLoss(verified.status()));
  EXPECT_THAT(std::string(verified.status().message()), HasSubstr(JoinPath(path_, kExpAvgSqName) + ": piece 1 "));
  // The bad byte isn't used even by a read of its neighbour; other pieces and classes are fine.
  const auto reader = Open();
  std::vector<float> one(1);
  EXPECT_TRUE(absl::IsDataLoss(reader->ReadRange(StateClass::kExpAvgSq, {kPieceElements, kPieceElements + 1}, one)));
  EXPECT_TRUE(reader->ReadRange(StateClass::kExpAvgSq, {0, 1}, one).ok());
  EXPECT_TRUE(reader->ReadRange(StateClass::kWeights, {kPieceElements, kPieceElements + 1}, one).ok());
}

TEST_F(ReaderTest, ATruncatedOrMissingFileIsFoundAtOnce) {
  File(kWeightsName).pop_back();
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
  EXPECT_THAT(std::string(OpenStatus().message()), HasSubstr(kWeightsName));
  ASSERT_TRUE(blobs_.RemoveTree(JoinPath(path_, kWeightsName)).ok());
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
  EXPECT_THAT(std::string(OpenStatus().message()), HasSubstr("weights-00001-of-00001.safetensors: is missing"));
}

TEST_F(ReaderTest, CutAfterItWasOpened) {
  const auto reader = Open();
  File(kWeightsName).resize(5000);
  std::vector<float> out(static_cast<size_t>(SmallTable().size()));
  EXPECT_TRUE(absl::IsDataLoss(reader->ReadRange(StateClass::kWeights, SmallTable().range(), out)));
}

TEST_F(ReaderTest, ADamagedHeaderIsFound) {
  // Two tensors of the same shape exchanged: still a sound safetensors file, but not this checkpoint's.
  std::vector<std::byte>& file = File(kWeightsName);
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  file[text.find("h.0.ln_1.weight") + 2] = std::byte{'1'};
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
  EXPECT_THAT(std::string(OpenStatus().message()), HasSubstr("safetensors header is damaged"));
}

TEST_F(ReaderTest, NoManifestMeansNeverCompleted) {
  ASSERT_TRUE(blobs_.RemoveTree(JoinPath(path_, kManifestName)).ok());
  EXPECT_TRUE(absl::IsNotFound(OpenStatus()));
  EXPECT_THAT(std::string(OpenStatus().message()), HasSubstr("isn't a checkpoint that was completed"));
  path_ = "/nowhere";
  EXPECT_TRUE(absl::IsNotFound(OpenStatus()));
}

TEST_F(ReaderTest, HalfAManifestIsDamage) {
  File(kManifestName).resize(File(kManifestName).size() / 2);
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
  EXPECT_THAT(std::string(OpenStatus().message()), HasSubstr("manifest.json: the manifest is cut"));
}

// Each of these is whole by itself, checksum and all.
TEST_F(ReaderTest, AManifestThatLiesIsFound) {
  const auto lie = [&](Manifest manifest) {
    EXPECT_TRUE(blobs_.WriteAtomic(JoinPath(path_, kManifestName), FormatManifest(manifest)).ok());
    return OpenStatus();
  };
  const Manifest truth = Open()->manifest();
  EXPECT_TRUE(lie(truth).ok());
  Manifest manifest = truth;
  manifest.spec.mutable_model()->set_hidden(192);
  EXPECT_TRUE(absl::IsDataLoss(lie(manifest))) << lie(manifest);
  manifest = truth;
  // As many elements, in other shapes: the headers tell.
  manifest.spec.mutable_model()->set_heads(6);
  EXPECT_TRUE(absl::IsDataLoss(lie(manifest))) << lie(manifest);
  manifest = truth;
  manifest.spec.mutable_model()->set_layers(0);
  EXPECT_TRUE(absl::IsDataLoss(lie(manifest))) << lie(manifest);
  manifest = truth;
  manifest.files.pop_back();
  EXPECT_TRUE(absl::IsDataLoss(lie(manifest))) << lie(manifest);
  manifest = truth;
  manifest.files[0].bytes -= 4;
  EXPECT_TRUE(absl::IsDataLoss(lie(manifest))) << lie(manifest);
  manifest = truth;
  std::swap(manifest.files[0], manifest.files[1]);
  EXPECT_TRUE(absl::IsDataLoss(lie(manifest))) << lie(manifest);
}

TEST_F(ReaderTest, AReadErrorIsPassedOn) {
  const auto reader = Open();
  blobs_.BreakReads(JoinPath(path_, kWeightsName), File(kWeightsName).size() - 1);
  std::vector<float> one(1);
  EXPECT_TRUE(reader->ReadRange(StateClass::kWeights, {0, 1}, one).ok());
  const int64_t size = SmallTable().size();
  EXPECT_TRUE(absl::IsDataLoss(reader->ReadRange(StateClass::kWeights, {size - 1, size}, one)));
}

}  // namespace
}  // namespace penstock
