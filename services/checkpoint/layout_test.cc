#include "services/checkpoint/layout.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "services/checkpoint/checkpoint_fixture.h"
#include "services/storage/safetensors.h"

namespace penstock {
namespace {

CheckpointLayout Layout(uint64_t file_bytes_max) {
  auto layout = CheckpointLayout::Create(SmallTable(), file_bytes_max);
  EXPECT_TRUE(layout.ok()) << layout.status();
  return *std::move(layout);
}

TEST(LayoutTest, OneFileOfEachClassWhereItFits) {
  const CheckpointLayout layout = Layout(kCheckpointFileBytesMax);
  ASSERT_EQ(layout.files().size(), 3u);
  EXPECT_EQ(layout.files()[0].name, "weights-00001-of-00001.safetensors");
  EXPECT_EQ(layout.files()[1].name, "exp_avg-00001-of-00001.safetensors");
  EXPECT_EQ(layout.files()[2].name, "exp_avg_sq-00001-of-00001.safetensors");
  EXPECT_EQ(layout.files()[0].range, SmallTable().range());
}

// For any limit: each class's files cover the table once, in order, with whole tensors, and each file's header says
// where its tensors are.
TEST(LayoutTest, FilesCoverTheTableWithWholeTensors) {
  const ParameterTable table = SmallTable();
  for (const uint64_t limit : {uint64_t{1}, uint64_t{50'000}, uint64_t{200'000}, uint64_t{1} << 40}) {
    const CheckpointLayout layout = Layout(limit);
    uint64_t bytes = 0;
    for (const StateClass state_class : kAllStateClasses) {
      int64_t at = 0;
      size_t parameter = 0;
      for (const CheckpointFile& file : layout.files()) {
        if (file.state_class != state_class) continue;
        bytes += file.bytes;
        EXPECT_EQ(file.range.begin, at);
        at = file.range.end;
        const auto header = ParseSafetensorsHeader(file.header, file.bytes);
        ASSERT_TRUE(header.ok()) << header.status();
        EXPECT_EQ(header->data_begin(), file.header.size());
        for (const SafetensorsEntry& entry : header->entries()) {
          const Parameter& expected = table.parameters()[parameter++];
          EXPECT_EQ(entry.name, expected.name);
          EXPECT_EQ(entry.dtype, Dtype::kF32);
          EXPECT_EQ(std::vector<int64_t>(entry.shape.begin(), entry.shape.end()), expected.shape);
          EXPECT_EQ(entry.begin - header->data_begin(), (expected.begin - file.range.begin) * sizeof(float));
        }
        if (header->entries().size() > 1) {
          EXPECT_LE(file.bytes - file.header.size(), limit);
        }
      }
      EXPECT_EQ(at, table.size());
      EXPECT_EQ(parameter, table.parameters().size());
    }
    EXPECT_EQ(bytes, layout.bytes());
  }
}

TEST(LayoutTest, SlicesCoverARangeAcrossFiles) {
  const CheckpointLayout layout = Layout(50'000);
  const ElementRange range = {10'000, 150'001};
  const auto slices = layout.Slices(StateClass::kExpAvg, range);
  ASSERT_TRUE(slices.ok());
  EXPECT_GT(slices->size(), 2u);
  int64_t at = range.begin;
  for (const FileSlice& slice : *slices) {
    const CheckpointFile& file = layout.files()[slice.file];
    EXPECT_EQ(file.state_class, StateClass::kExpAvg);
    EXPECT_EQ(slice.range.begin, at);
    at = slice.range.end;
    EXPECT_TRUE(file.range.Contains(slice.range));
    EXPECT_EQ(slice.offset, file.header.size() + (slice.range.begin - file.range.begin) * sizeof(float));
    EXPECT_LE(slice.offset + slice.range.size() * sizeof(float), file.bytes);
  }
  EXPECT_EQ(at, range.end);
  EXPECT_TRUE(layout.Slices(StateClass::kWeights, {5, 5})->empty());
  EXPECT_TRUE(absl::IsOutOfRange(layout.Slices(StateClass::kWeights, {0, layout.elements() + 1}).status()));
  EXPECT_TRUE(absl::IsOutOfRange(layout.Slices(StateClass::kWeights, {-1, 5}).status()));
  EXPECT_TRUE(absl::IsOutOfRange(layout.Slices(StateClass::kWeights, {6, 5}).status()));
}

TEST(LayoutTest, IndexNamesTheFileOfEachWeight) {
  const CheckpointLayout layout = Layout(50'000);
  const auto index = nlohmann::json::parse(layout.index_json());
  EXPECT_EQ(index["metadata"]["total_size"], SmallTable().size() * 4);
  EXPECT_EQ(index["weight_map"].size(), SmallTable().parameters().size());
  const ParameterTable table = SmallTable();
  for (const Parameter& parameter : table.parameters()) {
    const auto slices = layout.Slices(StateClass::kWeights, parameter.range());
    ASSERT_EQ(slices->size(), 1u);
    EXPECT_EQ(index["weight_map"][parameter.name], layout.files()[slices->front().file].name);
  }
}

}  // namespace
}  // namespace penstock
