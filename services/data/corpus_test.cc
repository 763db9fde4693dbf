#include "services/data/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <vector>

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CorpusTest : public ::testing::Test {
 protected:
  CorpusTest() : path_(::testing::TempDir() + "/corpus_test.txt") { data_.set_format(v1::DataSpec::FORMAT_BYTES); }
  ~CorpusTest() override { std::filesystem::remove(path_); }
  absl::StatusOr<std::unique_ptr<Corpus>> Open(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    data_.set_path(path_);
    return OpenCorpus(data_);
  }

  const std::string path_;
  v1::DataSpec data_;
};

TEST_F(CorpusTest, EachByteIsAToken) {
  const auto corpus = Open(std::string("a\xff\0z", 4));
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ((*corpus)->size(), 4);
  std::vector<int32_t> tokens(4);
  ASSERT_TRUE((*corpus)->Read(0, tokens).ok());
  EXPECT_THAT(tokens, ElementsAre('a', 255, 0, 'z'));
  tokens.resize(1);
  ASSERT_TRUE((*corpus)->Read(3, tokens).ok());
  EXPECT_THAT(tokens, ElementsAre('z'));
  EXPECT_TRUE(absl::IsOutOfRange((*corpus)->Read(4, tokens)));
  EXPECT_TRUE(absl::IsOutOfRange((*corpus)->Read(-1, tokens)));
  EXPECT_TRUE(absl::IsOutOfRange((*corpus)->Read(int64_t{1} << 62, tokens)));
}

TEST_F(CorpusTest, WhatIsNoFileIsRefused) {
  data_.set_path("/no/such/corpus.txt");
  EXPECT_TRUE(absl::IsNotFound(OpenCorpus(data_).status()));
  EXPECT_THAT(std::string(OpenCorpus(data_).status().message()), HasSubstr("/no/such/corpus.txt"));
  data_.set_path(::testing::TempDir());
  EXPECT_TRUE(absl::IsInvalidArgument(OpenCorpus(data_).status()));
  EXPECT_THAT(std::string(OpenCorpus(data_).status().message()), HasSubstr("is a folder"));
  data_.set_path("");
  EXPECT_FALSE(OpenCorpus(data_).ok());
  // A pipe is refused rather than waited for.
  data_.set_path(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(OpenCorpus(data_).status()));
}

TEST_F(CorpusTest, AnUnknownFormatIsRefused) {
  data_.set_format(v1::DataSpec::FORMAT_UNSPECIFIED);
  EXPECT_TRUE(absl::IsInvalidArgument(Open("abc").status()));
}

TEST_F(CorpusTest, AFileThatChangesUnderneathIsNoticed) {
  for (const bool shorter : {true, false}) {
    const auto corpus = Open("0123456789");
    ASSERT_TRUE(corpus.ok());
    std::vector<int32_t> tokens(5);
    ASSERT_TRUE((*corpus)->Read(5, tokens).ok());
    std::filesystem::resize_file(path_, shorter ? 7 : 12);
    const absl::Status status = (*corpus)->Read(0, tokens);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("10 bytes when opened"));
  }
  // Replaced by another file: what was opened is still there.
  const auto corpus = Open("0123456789");
  ASSERT_TRUE(corpus.ok());
  std::filesystem::remove(path_);
  std::vector<int32_t> tokens(1);
  EXPECT_TRUE((*corpus)->Read(0, tokens).ok());
}

TEST_F(CorpusTest, OverwrittenInPlaceIsNoticed) {
  const auto corpus = Open("0123456789");
  ASSERT_TRUE(corpus.ok());
  const auto changed = std::filesystem::last_write_time(path_) + std::chrono::seconds(1);
  std::ofstream(path_, std::ios::binary | std::ios::in) << "9876543210";
  std::filesystem::last_write_time(path_, changed);
  std::vector<int32_t> tokens(1);
  EXPECT_TRUE(absl::IsFailedPrecondition((*corpus)->Read(0, tokens)));
}

}  // namespace
}  // namespace penstock
