#include "services/data/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/plan/job_rules.h"

namespace penstock {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class InspectTest : public ::testing::Test {
 protected:
  InspectTest() : path_(::testing::TempDir() + "/inspect_test.txt") {
    spec_.mutable_data()->set_format(v1::DataSpec::FORMAT_BYTES);
    spec_.mutable_data()->set_path(path_);
    spec_.mutable_data()->set_validation_ratio(0.1);
    spec_.mutable_model()->set_seq_length(16);
    spec_.mutable_model()->set_vocab_size(256);
    spec_.mutable_training()->set_global_batch_size(4);
    spec_.mutable_training()->set_validation_samples(4);
  }
  ~InspectTest() override { std::filesystem::remove(path_); }
  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  // "FIELD: MESSAGE" of the one violation there must be.
  std::string Only() {
    const auto violations = InspectCorpus(spec_).violations;
    EXPECT_EQ(violations.size(), 1u);
    return violations.empty() ? "" : violations[0].field() + ": " + violations[0].message();
  }

  const std::string path_;
  v1::JobSpec spec_;
};

TEST_F(InspectTest, FactsOfASoundCorpus) {
  std::string text(2'100'000, 'a');
  text[2'000'000] = 'q';
  text[2'000'001] = 'q';
  Write(text);
  const CorpusInspection inspection = InspectCorpus(spec_);
  EXPECT_TRUE(inspection.violations.empty());
  EXPECT_EQ(inspection.facts.bytes, 2'100'000);
  EXPECT_EQ(inspection.facts.tokens, 2'100'000);
  EXPECT_EQ(inspection.facts.split.validation_tokens, 210'000);
  EXPECT_EQ(inspection.facts.largest_token, 'q');
  EXPECT_EQ(inspection.facts.largest_token_at, 2'000'000);
}

TEST_F(InspectTest, MissingFolderAndEmpty) {
  EXPECT_THAT(Only(), AllOf(HasSubstr("data.path: " + path_), HasSubstr("No such file")));
  Write("");
  EXPECT_THAT(Only(), HasSubstr("is empty"));
  spec_.mutable_data()->set_path(::testing::TempDir());
  EXPECT_THAT(Only(), HasSubstr("is a folder"));
}

TEST_F(InspectTest, Unreadable) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
  Write("text");
  std::filesystem::permissions(path_, std::filesystem::perms::none);
  EXPECT_THAT(Only(), HasSubstr("Permission denied"));
}

TEST_F(InspectTest, ShorterThanOneSample) {
  Write("0123456789abcdef");
  EXPECT_THAT(Only(), AllOf(HasSubstr("data.path: "), HasSubstr("has 16 tokens"), HasSubstr("seq_length + 1 = 17")));
  Write("0123456789abcdefg");
  EXPECT_THAT(Only(), HasSubstr("data.validation_ratio: "));
  spec_.mutable_data()->set_validation_ratio(0);
  EXPECT_TRUE(InspectCorpus(spec_).violations.empty());
}

TEST_F(InspectTest, TailTooShortToValidateOn) {
  Write(std::string(500, 'a'));
  EXPECT_TRUE(InspectCorpus(spec_).violations.empty());
  spec_.mutable_training()->set_validate_every_steps(10);
  EXPECT_THAT(Only(), AllOf(HasSubstr("data.validation_ratio: holds out 50 of the 500 tokens"),
                            HasSubstr("3 samples, less than one global batch of 4"), HasSubstr("use at least 0.132")));
  // What it says would be right, is.
  spec_.mutable_data()->set_validation_ratio(0.132);
  EXPECT_TRUE(InspectCorpus(spec_).violations.empty());
}

TEST_F(InspectTest, ATailTooShortForTheDefaultsIsNoFault) {
  Write(std::string(500, 'a'));
  v1::JobSpec plain;
  FillDefaults(&plain);
  spec_.mutable_data()->set_validation_ratio(plain.data().validation_ratio());
  spec_.mutable_training()->set_validate_every_steps(plain.training().validate_every_steps());
  spec_.mutable_training()->set_validation_samples(plain.training().validation_samples());
  EXPECT_TRUE(InspectCorpus(spec_).violations.empty());
  EXPECT_THAT(InspectCorpus(spec_).notes, ::testing::ElementsAre(HasSubstr("validation is skipped: ")));
  spec_.mutable_training()->set_validation_samples(8);
  EXPECT_FALSE(InspectCorpus(spec_).violations.empty());
  EXPECT_TRUE(InspectCorpus(spec_).notes.empty());
}

TEST_F(InspectTest, VocabularySmallerThanAByteThatOccurs) {
  Write(std::string(100, 'a') + "z" + std::string(100, 'b'));
  spec_.mutable_model()->set_vocab_size('z');
  EXPECT_THAT(Only(), AllOf(HasSubstr("model.vocab_size: is 122"), HasSubstr("has the byte 122 ('z') at offset 100"),
                            HasSubstr("use at least 123")));
  spec_.mutable_model()->set_vocab_size('z' + 1);
  EXPECT_TRUE(InspectCorpus(spec_).violations.empty());
}

TEST_F(InspectTest, AllAtOnce) {
  Write("0123456789abcde\xff");
  spec_.mutable_model()->set_vocab_size(128);
  EXPECT_EQ(InspectCorpus(spec_).violations.size(), 2u);
}

}  // namespace
}  // namespace penstock
