#include "services/checkpoint/huggingface_config.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr char kGood[] = R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 24, "n_head": 3, "n_positions": 16,
  "vocab_size": 61, "n_inner": 80, "layer_norm_epsilon": 1e-06, "attn_pdrop": 0.1, "task_specific_params": {"a": 1}})";

// kGood with `from` replaced by `to`.
std::string With(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string ErrorOf(const std::string& text) {
  const auto model = ParseHuggingFaceConfig(text);
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(model.status().message());
}

TEST(HuggingFaceConfig, HasTheModel) {
  const auto model = ParseHuggingFaceConfig(kGood);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->family(), v1::ModelSpec::FAMILY_GPT2);
  EXPECT_EQ(model->layers(), 2u);
  EXPECT_EQ(model->hidden(), 24u);
  EXPECT_EQ(model->heads(), 3u);
  EXPECT_EQ(model->seq_length(), 16u);
  EXPECT_EQ(model->vocab_size(), 61u);
  EXPECT_EQ(model->mlp_hidden(), 80u);
  EXPECT_EQ(model->layer_norm_epsilon(), 1e-6);
}

TEST(HuggingFaceConfig, NoInnerSizeMeansFourTimesTheHiddenOne) {
  EXPECT_EQ(ParseHuggingFaceConfig(With("80", "null"))->mlp_hidden(), 96u);
  EXPECT_EQ(ParseHuggingFaceConfig(With("\"n_inner\": 80,", ""))->mlp_hidden(), 96u);
}

TEST(HuggingFaceConfig, WhatIsWrittenReadsBack) {
  const auto model = ParseHuggingFaceConfig(kGood);
  const auto again = ParseHuggingFaceConfig(FormatHuggingFaceConfig(*model));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), model->SerializeAsString());
}

TEST(HuggingFaceConfig, ErrorsNameTheField) {
  EXPECT_EQ(ErrorOf(With("\"n_layer\": 2,", "")), "n_layer is missing; it is a number of a GPT-2's config");
  EXPECT_EQ(ErrorOf(With("\"n_layer\": 2", "\"n_layer\": -2")), "n_layer is -2; it should be a whole number above 0");
  EXPECT_EQ(ErrorOf(With("61", "4294967296")), "vocab_size is 4294967296; it should be a whole number above 0");
  EXPECT_EQ(ErrorOf(With("61", "\"61\"")), "vocab_size is \"61\"; it should be a whole number above 0");
  EXPECT_EQ(ErrorOf(With("1e-06", "true")), "layer_norm_epsilon is true");
  EXPECT_EQ(ErrorOf(With("\"gpt2\"", "\"llama\"")), "model_type is \"llama\"; this version reads \"gpt2\"");
  EXPECT_EQ(ErrorOf(With("\"n_inner\"", "\"n_ctx\": 32, \"n_inner\"")), "n_ctx is 32, but n_positions is 16");
  EXPECT_TRUE(
      ErrorOf(With("\"n_head\": 3", "\"n_head\": 5")).starts_with("n_head is 5, which doesn't divide hidden 24"));
  EXPECT_TRUE(ErrorOf(With("\"n_layer\": 2", "\"n_layer\": 0")).starts_with("n_layer "));
}

TEST(HuggingFaceConfig, OtherFunctionsAreRefused) {
  for (const char* field :
       {"\"activation_function\": \"relu\"", "\"tie_word_embeddings\": false", "\"scale_attn_weights\": false",
        "\"scale_attn_by_inverse_layer_idx\": true", "\"add_cross_attention\": true", "\"tie_word_embeddings\": 1"}) {
    const std::string error = ErrorOf(With("\"n_layer\"", std::string(field) + ", \"n_layer\""));
    EXPECT_NE(error.find(std::string(field).substr(1, 8)), std::string::npos) << error;
  }
}

TEST(HuggingFaceConfig, DamagedTextIsRefused) {
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{"), std::string("null"),
                                  std::string(kGood).substr(0, 40), std::string(100, '[') + std::string(100, ']'),
                                  std::string("{\"model_type\": \"gpt2\xff\"}"), With("61", "1e400")}) {
    ErrorOf(text);
  }
  ErrorOf(std::string(kHuggingFaceConfigBytesMax + 1, ' '));
}

}  // namespace
}  // namespace penstock
