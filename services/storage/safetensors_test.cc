#include "services/storage/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "services/storage/fake_blobs.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kMixed[] = "services/storage/testdata/mixed.safetensors";
constexpr char kNoTensors[] = "services/storage/testdata/no_tensors.safetensors";

// The bytes before the data, for this JSON.
std::string Beginning(const std::string& json) {
  const uint64_t length = json.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + json;
}

// The error for a file with this header and this many bytes of data, or "OK".
std::string ErrorOf(const std::string& json, uint64_t data_bytes) {
  const std::string beginning = Beginning(json);
  const auto header = ParseSafetensorsHeader(beginning, beginning.size() + data_bytes);
  if (header.ok()) return "OK";
  EXPECT_TRUE(absl::IsInvalidArgument(header.status())) << header.status();
  return std::string(header.status().message());
}

std::string Entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST(SafetensorsTest, ReadsWhatTheFormatsOwnLibraryWrote) {
  const auto file = SafetensorsFile::Open(LocalDisk(), kMixed);
  ASSERT_TRUE(file.ok()) << file.status();
  const SafetensorsHeader& header = file->header();
  EXPECT_EQ(header.entries().size(), 8u);
  EXPECT_EQ(header.metadata().at("format"), "np");
  EXPECT_EQ(header.metadata().at("note"), "line\nbreak");
  EXPECT_EQ(header.data_begin() % 8, 0u);

  const SafetensorsEntry* wte = header.Find("wte");
  ASSERT_NE(wte, nullptr);
  EXPECT_EQ(wte->dtype, Dtype::kF32);
  EXPECT_THAT(wte->shape, ElementsAre(4, 3));
  EXPECT_EQ(wte->elements(), 12u);
  std::vector<float> values(12);
  ASSERT_TRUE(file->ReadFloats("wte", 0, values).ok());
  for (int i = 0; i < 12; ++i) EXPECT_EQ(values[i], i / 8.0f);
  std::vector<float> part(2);
  ASSERT_TRUE(file->ReadFloats("wte", 5, part).ok());
  EXPECT_THAT(part, ElementsAre(5 / 8.0f, 6 / 8.0f));

  std::vector<int64_t> ids(3);
  ASSERT_TRUE(file->Read("ids", 0, std::as_writable_bytes(std::span(ids))).ok());
  EXPECT_THAT(ids, ElementsAre(1, -2, 3));
  EXPECT_EQ(header.Find("mask")->dtype, Dtype::kBool);
  EXPECT_EQ(header.Find("half")->dtype, Dtype::kF16);
  EXPECT_TRUE(header.Find("scalar")->shape.empty());
  EXPECT_EQ(header.Find("scalar")->elements(), 1u);
  EXPECT_EQ(header.Find("empty")->elements(), 0u);
  EXPECT_NE(header.Find("ünïcode \"quoted\""), nullptr);

  EXPECT_TRUE(absl::IsNotFound(file->ReadFloats("wpe", 0, values)));
  EXPECT_TRUE(absl::IsInvalidArgument(file->ReadFloats("ids", 0, part)));
  EXPECT_TRUE(absl::IsOutOfRange(file->ReadFloats("wte", 11, part)));
  EXPECT_TRUE(absl::IsOutOfRange(file->ReadFloats("wte", uint64_t{1} << 62, part)));
}

TEST(SafetensorsTest, ReadsAFileWithoutTensors) {
  const auto file = SafetensorsFile::Open(LocalDisk(), kNoTensors);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->header().entries().empty());
}

TEST(SafetensorsTest, WritesWhatItReads) {
  FakeBlobs blobs;
  ASSERT_TRUE(blobs.CreateFolders("/d").ok());
  const std::vector<float> b = {1, 2, 3, 4, 5, 6};
  const std::vector<uint8_t> a = {9, 8, 7};
  ASSERT_TRUE(WriteSafetensors(blobs, "/d/f",
                               {{{"b", Dtype::kF32, {2, 3}}, std::as_bytes(std::span(b))},
                                {{"a", Dtype::kU8, {3}}, std::as_bytes(std::span(a))}},
                               {{"k", "v"}})
                  .ok());
  const auto file = SafetensorsFile::Open(blobs, "/d/f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->header().entries()[0].name, "b");
  EXPECT_EQ(file->header().data_begin() % 8, 0u);
  EXPECT_EQ(file->header().metadata().at("k"), "v");
  std::vector<float> read(6);
  ASSERT_TRUE(file->ReadFloats("b", 0, read).ok());
  EXPECT_EQ(read, b);
  EXPECT_EQ(*blobs.Size("/d/f"), file->header().data_begin() + 24 + 3);
}

TEST(SafetensorsTest, WriterRefusesWhatNobodyCouldRead) {
  EXPECT_FALSE(FormatSafetensorsHeader({{"a", Dtype::kU8, {1}}, {"a", Dtype::kU8, {1}}}, {}).ok());
  EXPECT_FALSE(FormatSafetensorsHeader({{"__metadata__", Dtype::kU8, {1}}}, {}).ok());
  EXPECT_FALSE(FormatSafetensorsHeader({{"a", Dtype::kF64, {uint64_t{1} << 32, uint64_t{1} << 32}}}, {}).ok());
  EXPECT_FALSE(FormatSafetensorsHeader({{"\xff", Dtype::kU8, {1}}}, {}).ok());
  FakeBlobs blobs;
  const std::vector<uint8_t> a = {9, 8};
  EXPECT_FALSE(WriteSafetensors(blobs, "f", {{{"a", Dtype::kU8, {3}}, std::as_bytes(std::span(a))}}, {}).ok());
}

TEST(SafetensorsTest, SoundHeadersPass) {
  EXPECT_EQ(ErrorOf("{}", 0), "OK");
  EXPECT_EQ(ErrorOf("{}      ", 0), "OK");
  EXPECT_EQ(ErrorOf(R"({"a":)" + Entry("F32", "[2]", "[0,8]") + "}", 8), "OK");
  // In any order, keys and entries.
  EXPECT_EQ(
      ErrorOf(R"({"b":{"data_offsets":[4,5],"shape":[],"dtype":"U8"},"a":)" + Entry("F32", "[1]", "[0,4]") + "}", 5),
      "OK");
  EXPECT_EQ(ErrorOf(R"({"a":)" + Entry("F64", "[18446744073709551615,0,18446744073709551615]", "[0,0]") + "}", 0),
            "OK");
}

TEST(SafetensorsTest, LiesAboutTheLengthAreRefused) {
  EXPECT_THAT(std::string(ParseSafetensorsHeader("\x01\x02", 2).status().message()), HasSubstr("only 2 bytes"));
  EXPECT_THAT(std::string(ParseSafetensorsHeader(std::string(8, '\xff'), 1000).status().message()),
              HasSubstr("claims a header of 18446744073709551615 bytes; at most 100000000"));
  std::string cut = Beginning("{}");
  cut[0] = 100;
  EXPECT_THAT(std::string(ParseSafetensorsHeader(cut, 10).status().message()),
              HasSubstr("claims a header of 100 bytes, but the file has only 10"));
  // The file is large enough, but the bytes aren't given.
  EXPECT_FALSE(ParseSafetensorsHeader(cut, 1000).ok());
}

TEST(SafetensorsTest, EachLieAboutAnEntryIsRefusedByName) {
  const auto one = [](const std::string& entry, uint64_t bytes) { return ErrorOf(R"({"wte":)" + entry + "}", bytes); };
  EXPECT_THAT(one(Entry("F99", "[2]", "[0,8]"), 8), HasSubstr(R"(entry "wte" has the unknown dtype "F99")"));
  EXPECT_THAT(one(Entry("F32", "[3]", "[0,8]"), 8), HasSubstr("has 8 bytes, but its shape and dtype need 12"));
  EXPECT_THAT(one(Entry("F32", "[2]", "[0,8]"), 4), HasSubstr("past the end of the file's 4 bytes"));
  EXPECT_THAT(one(Entry("F32", "[2]", "[8,0]"), 8), HasSubstr("ends before it begins"));
  EXPECT_THAT(one(Entry("F32", "[2]", "[0,8,9]"), 8), HasSubstr("more than two numbers"));
  EXPECT_THAT(one(Entry("F32", "[2]", "[0]"), 8), HasSubstr("needs two numbers"));
  EXPECT_THAT(one(Entry("F32", "[4294967296,4294967296]", "[0,8]"), 8), HasSubstr("overflows"));
  EXPECT_THAT(one(Entry("F32", "[-1]", "[0,8]"), 8), HasSubstr("has a negative number where an unsigned"));
  EXPECT_THAT(one(Entry("F32", "[2.0]", "[0,8]"), 8), HasSubstr("has the number 2.0 where an unsigned"));
  EXPECT_THAT(one(Entry("F32", "[18446744073709551616]", "[0,8]"), 8), HasSubstr("where an unsigned 64-bit"));
  EXPECT_THAT(one(Entry("F32", "[[2]]", "[0,8]"), 8), HasSubstr("an array where"));
  EXPECT_THAT(one(Entry("F32", "[true]", "[0,8]"), 8), HasSubstr("a boolean where"));
  EXPECT_THAT(one(Entry("F32", "\"2\"", "[0,8]"), 8), HasSubstr("a string where an array"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[2]})", 8), HasSubstr("has no data_offsets"));
  EXPECT_THAT(one(R"({"dtype":"F32","data_offsets":[0,8]})", 8), HasSubstr("has no shape"));
  EXPECT_THAT(one(R"({"shape":[2],"data_offsets":[0,8]})", 8), HasSubstr("has no dtype"));
  EXPECT_THAT(one(R"({"dtype":"F32","dtype":"F32"})", 8), HasSubstr("has dtype twice"));
  EXPECT_THAT(one(R"({"shape":[],"shape":[]})", 8), HasSubstr("has shape twice"));
  EXPECT_THAT(one(R"({"strides":[1]})", 8), HasSubstr(R"(has the unknown key "strides")"));
  EXPECT_THAT(one("null", 8), HasSubstr("has null where an object"));
  EXPECT_THAT(one("[]", 8), HasSubstr("an array where an object"));
  std::string axes = "[1";
  for (int i = 0; i < 40; ++i) axes += ",1";
  EXPECT_THAT(one(Entry("F32", axes + "]", "[0,4]"), 4), HasSubstr("more than 32 axes"));
}

TEST(SafetensorsTest, OverlapsHolesAndDoublesAreRefused) {
  const std::string first = R"({"a":)" + Entry("U8", "[4]", "[0,4]");
  EXPECT_THAT(ErrorOf(first + R"(,"b":)" + Entry("U8", "[4]", "[3,7]") + "}", 7),
              HasSubstr(R"(entry "b" overlaps entry "a")"));
  EXPECT_THAT(ErrorOf(first + R"(,"b":)" + Entry("U8", "[4]", "[5,9]") + "}", 9),
              HasSubstr(R"(bytes [4, 5) before entry "b" belong to no tensor)"));
  EXPECT_THAT(ErrorOf(first + R"(,"a":)" + Entry("U8", "[4]", "[4,8]") + "}", 8),
              HasSubstr(R"(entry "a" comes twice)"));
  EXPECT_THAT(ErrorOf(first + "}", 5), HasSubstr("the tensors end at byte 4 of the data, but the file has 5"));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":{"k":"v","k":"w"}})", 0), HasSubstr(R"(the key "k" twice)"));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":{"k":1}})", 0), HasSubstr("a number where a string"));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":{},"__metadata__":{}})", 0), HasSubstr("comes twice"));
}

TEST(SafetensorsTest, DamagedJsonIsRefused) {
  EXPECT_THAT(ErrorOf("", 8), HasSubstr("doesn't start with '{'"));
  EXPECT_THAT(ErrorOf(" {}", 0), HasSubstr("doesn't start with '{'"));
  EXPECT_THAT(ErrorOf("[]", 0), HasSubstr("doesn't start with '{'"));
  EXPECT_THAT(ErrorOf("{", 0), HasSubstr("isn't sound JSON"));
  EXPECT_THAT(ErrorOf("{}x", 0), HasSubstr("isn't sound JSON"));
  EXPECT_THAT(ErrorOf("{}{}", 0), HasSubstr("isn't sound JSON"));
  EXPECT_THAT(ErrorOf("{\"\xff\":{}}", 0), HasSubstr("isn't sound JSON"));
  EXPECT_THAT(ErrorOf(std::string("{}\0{", 4), 0), HasSubstr("null byte"));
  // Nesting costs nothing, however deep.
  std::string deep = R"({"a":)";
  for (int i = 0; i < 1'000'000; ++i) deep += "[";
  EXPECT_THAT(ErrorOf(deep, 0), HasSubstr("an array where an object"));
  deep.clear();
  for (int i = 0; i < 1'000'000; ++i) deep += R"({"a":)";
  EXPECT_NE(ErrorOf(deep, 0), "OK");
}

TEST(SafetensorsTest, AnErrorNamesTheFile) {
  FakeBlobs blobs;
  ASSERT_TRUE(blobs.CreateFolders("/d").ok());
  ASSERT_TRUE(blobs.WriteAtomic("/d/f", Beginning("{]")).ok());
  const auto file = SafetensorsFile::Open(blobs, "/d/f");
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("/d/f: the header isn't sound JSON"));
  ASSERT_TRUE(blobs.WriteAtomic("/d/f", "").ok());
  EXPECT_THAT(std::string(SafetensorsFile::Open(blobs, "/d/f").status().message()),
              HasSubstr("/d/f: has only 0 bytes"));
  EXPECT_TRUE(absl::IsNotFound(SafetensorsFile::Open(blobs, "/d/no").status()));
}

// Every prefix of a sound file, and every byte of its header replaced, is refused or read as something sound: never
// more.
TEST(SafetensorsTest, DamageAnywhereIsHarmless) {
  const auto whole = ReadWholeBlob(LocalDisk(), kMixed, 1 << 20);
  ASSERT_TRUE(whole.ok());
  const auto header = ParseSafetensorsHeader(*whole, whole->size());
  ASSERT_TRUE(header.ok());
  for (size_t bytes = 0; bytes < whole->size(); ++bytes) {
    EXPECT_FALSE(ParseSafetensorsHeader(whole->substr(0, bytes), bytes).ok()) << bytes;
  }
  for (size_t at = 0; at < header->data_begin(); ++at) {
    for (const char replacement : {'\0', '0', '9', '"', '{', ']', '\xff'}) {
      std::string damaged = *whole;
      damaged[at] = replacement;
      const auto parsed = ParseSafetensorsHeader(damaged, damaged.size());
      if (!parsed.ok()) continue;
      for (const SafetensorsEntry& entry : parsed->entries()) {
        EXPECT_LE(entry.begin, entry.end);
        EXPECT_LE(entry.end, damaged.size());
      }
    }
  }
}

}  // namespace
}  // namespace penstock
