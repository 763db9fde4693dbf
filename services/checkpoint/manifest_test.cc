#include "services/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "services/checkpoint/checkpoint_fixture.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

// The text with its checksum made right again: a manifest that lies on purpose.
std::string Resign(std::string text) {
  const size_t line = text.rfind("\n  \"checksum\"");
  text.resize(line);
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(text.data(), text.size()));
  const std::string digits = absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)));
  return text + "\n  \"checksum\": \"" + digits + "\"\n}\n";
}

class ManifestTest : public ::testing::Test {
 protected:
  ManifestTest() : manifest_(SmallManifest(7, SmallState(1))) {
    manifest_.files = {{"weights-00001-of-00001.safetensors", 1234}};
    text_ = FormatManifest(manifest_);
  }
  std::string ErrorOf(const std::string& text) {
    const auto parsed = ParseManifest(text);
    EXPECT_FALSE(parsed.ok());
    return parsed.ok() ? "OK" : std::string(parsed.status().message());
  }
  // With one text for another, everywhere, under a right checksum.
  std::string ErrorOfLie(const std::string& from, const std::string& to) {
    EXPECT_THAT(text_, HasSubstr(from));
    return ErrorOf(Resign(absl::StrReplaceAll(text_, {{from, to}})));
  }

  Manifest manifest_;
  std::string text_;
};

TEST_F(ManifestTest, GoesBothWays) {
  const auto parsed = ParseManifest(text_);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(parsed->spec, manifest_.spec));
  EXPECT_EQ(parsed->step, 7u);
  EXPECT_EQ(parsed->samples_consumed, 224u);
  EXPECT_EQ(parsed->elements, SmallTable().size());
  EXPECT_EQ(parsed->digest, manifest_.digest);
  EXPECT_EQ(parsed->pieces, manifest_.pieces);
  ASSERT_EQ(parsed->files.size(), 1u);
  EXPECT_EQ(parsed->files[0].name, "weights-00001-of-00001.safetensors");
  EXPECT_EQ(parsed->files[0].bytes, 1234u);
  EXPECT_EQ(Resign(text_), text_);
}

TEST_F(ManifestTest, MissingPiecesMakeNoManifest) {
  auto pieces = SmallState(1).Pieces();
  pieces.pop_back();
  EXPECT_FALSE(MakeManifest(SmallJob(), 7, 224, SmallTable().size(), pieces).ok());
}

TEST_F(ManifestTest, EveryCutAndEveryFlippedBitIsFound) {
  for (size_t bytes = 0; bytes < text_.size(); ++bytes) {
    ASSERT_TRUE(absl::IsDataLoss(ParseManifest(text_.substr(0, bytes)).status())) << bytes;
  }
  for (size_t at = 0; at < text_.size(); ++at) {
    std::string damaged = text_;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    ASSERT_TRUE(absl::IsDataLoss(ParseManifest(damaged).status())) << at;
  }
  EXPECT_THAT(ErrorOf(""), HasSubstr("is cut"));
  EXPECT_THAT(ErrorOf(text_.substr(0, text_.size() / 2)), HasSubstr("is cut"));
}

TEST_F(ManifestTest, LiesUnderARightChecksumAreFound) {
  EXPECT_THAT(ErrorOfLie("\"step\": 7", "\"step\": 8"), HasSubstr("a digest that its pieces don't make"));
  EXPECT_THAT(ErrorOfLie("\"step\": 7", "\"step\": -7"), HasSubstr("digest"));
  EXPECT_THAT(ErrorOfLie("\"step\": 7", "\"step\": \"7\""), HasSubstr("can't be read"));
  EXPECT_THAT(ErrorOfLie("\"step\": 7", "\"stepp\": 7"), HasSubstr("can't be read"));
  EXPECT_THAT(ErrorOfLie("\"piece_elements\": 65536", "\"piece_elements\": 1"), HasSubstr("pieces of another size"));
  const std::string elements = std::to_string(manifest_.elements);
  EXPECT_THAT(ErrorOfLie("\"elements\": " + elements, "\"elements\": 1"), HasSubstr("isn't what 1 elements make"));
  EXPECT_THAT(ErrorOfLie("\"elements\": " + elements, "\"elements\": -1"), HasSubstr("isn't what"));
  EXPECT_THAT(ErrorOfLie(ToHex(manifest_.pieces[1]), "00"), HasSubstr("has a bad piece"));
  EXPECT_THAT(ErrorOfLie(ToHex(manifest_.pieces[1]), ToHex(manifest_.pieces[0])), HasSubstr("digest"));
  EXPECT_THAT(ErrorOfLie("\"layers\"", "\"layerz\""), HasSubstr("has a job that can't be read"));
  EXPECT_THAT(ErrorOfLie("\"name\": \"weights-00001", "\"name\": \"../weights-00001"), HasSubstr("names a file"));
  EXPECT_THAT(ErrorOfLie("\"name\": \"weights-00001", "\"name\": \"a/weights-00001"), HasSubstr("names a file"));
  const std::string deep = "\"layers\": " + std::string(200'000, '[') + "2" + std::string(200'000, ']');
  EXPECT_THAT(ErrorOfLie("\"layers\": 2", deep), HasSubstr("nested too deeply"));
  EXPECT_THAT(ErrorOf(Resign("{\n  \"checksum\"")), HasSubstr("is damaged"));
}

TEST_F(ManifestTest, ANewerFormatIsNotCalledDamaged) {
  const auto parsed =
      ParseManifest(Resign(absl::StrReplaceAll(text_, {{"\"format_version\": 1", "\"format_version\": 2"}})));
  EXPECT_TRUE(absl::IsUnimplemented(parsed.status())) << parsed.status();
}

TEST_F(ManifestTest, ResumeNeedsTheSameModelOptimizerAndSamples) {
  v1::JobSpec spec = SmallJob();
  EXPECT_TRUE(CheckResume(manifest_, spec).empty());
  // What may differ.
  spec.mutable_training()->set_steps(1000);
  spec.mutable_training()->set_micro_batch_size(2);
  spec.mutable_parallel()->set_pipeline(2);
  spec.mutable_optimizer()->set_learning_rate(0.5);
  spec.mutable_model()->set_init_std(0.5);
  EXPECT_TRUE(CheckResume(manifest_, spec).empty());
  // What may not, all at once.
  spec.mutable_model()->set_heads(6);
  spec.mutable_model()->set_layer_norm_epsilon(1.0000001e-5);
  spec.mutable_training()->set_seed(2);
  spec.mutable_training()->set_global_batch_size(64);
  const auto violations = CheckResume(manifest_, spec);
  ASSERT_EQ(violations.size(), 4u);
  EXPECT_EQ(violations[0].field(), "model.heads");
  EXPECT_THAT(violations[0].message(), HasSubstr("is 6, but the checkpoint of step 7 has 3; use 3"));
  EXPECT_EQ(violations[1].field(), "model.layer_norm_epsilon");
  EXPECT_EQ(violations[2].field(), "training.seed");
  EXPECT_EQ(violations[3].field(), "training.global_batch_size");
}

}  // namespace
}  // namespace penstock
