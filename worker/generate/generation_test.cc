// The decoder against itself and the loop around it. Against worker/model and PyTorch:
// tests/parity/huggingface_test.cc.
#include "worker/generate/generation.h"

#include <numeric>
#include <vector>

#include "core/model/parameter_table.h"
#include "core/model/test_gpt2.h"
#include "core/random/initial_weights.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

v1::ModelSpec Model() {
  v1::ModelSpec model =
      TestGpt2({.layers = 2, .hidden = 40, .heads = 2, .seq_length = 24, .vocab_size = 50, .mlp_hidden = 150});
  // Wide, so that logits differ.
  model.set_init_std(0.3);
  return model;
}

std::unique_ptr<Gpt2Decoder> Decoder(int threads = 1) {
  const ParameterTable table = ParameterTable::Create(Model()).value();
  auto decoder = Gpt2Decoder::Create(Model(), table, threads);
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  FillInitial(table, 1, table.range(), (*decoder)->weights());
  return *std::move(decoder);
}

std::vector<uint32_t> Generated(Gpt2Decoder& decoder, const std::vector<int32_t>& prompt, uint32_t count,
                                const SamplingOptions& sampling = {}) {
  std::vector<uint32_t> tokens;
  const absl::Status status = RunGeneration(decoder, prompt,
                                            {.sampling = sampling,
                                             .max_tokens = count,
                                             .check = [] { return absl::OkStatus(); },
                                             .on_token =
                                                 [&tokens](uint32_t token) {
                                                   tokens.push_back(token);
                                                   return absl::OkStatus();
                                                 }});
  EXPECT_TRUE(status.ok()) << status;
  return tokens;
}

TEST(Gpt2Decoder, CutsAndThreadsChangeNoBit) {
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};
  std::vector<float> expected;
  for (const int threads : {1, 3}) {
    for (const size_t cut : {1, 3, 16}) {
      const auto decoder = Decoder(threads);
      std::vector<float> logits(50);
      for (size_t at = 0; at < tokens.size(); at += cut) {
        const size_t size = std::min(cut, tokens.size() - at);
        ASSERT_TRUE(decoder->Append(std::span(tokens).subspan(at, size), logits).ok());
      }
      if (expected.empty()) expected = logits;
      EXPECT_EQ(logits, expected) << threads << " threads, " << cut << " at a time";
    }
  }
}

TEST(Gpt2Decoder, WhatDoesNotFitIsRefused) {
  const auto decoder = Decoder();
  std::vector<float> logits(50);
  EXPECT_EQ(decoder->Append(std::vector<int32_t>{50}, logits).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(decoder->Append(std::vector<int32_t>{-1}, logits).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(decoder->Append({}, logits).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(decoder->Append(std::vector<int32_t>(16, 1), {}).ok());
  EXPECT_EQ(decoder->Append(std::vector<int32_t>(9, 1), logits).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(decoder->Append(std::vector<int32_t>(8, 1), logits).ok());
}

TEST(Generation, TheSameSeedGivesTheSameTextAndAnotherSeedAnother) {
  const auto decoder = Decoder(2);
  const std::vector<uint32_t> first = Generated(*decoder, {1, 2, 3}, 60, {.seed = 1});
  EXPECT_EQ(first.size(), 60u);
  EXPECT_EQ(Generated(*decoder, {1, 2, 3}, 60, {.seed = 1}), first);
  EXPECT_NE(Generated(*decoder, {1, 2, 3}, 60, {.seed = 2}), first);
}

// Beyond the positions the text goes on from its last half.
TEST(Generation, GoesOnBeyondTheModelsPositions) {
  const auto decoder = Decoder();
  const SamplingOptions greedy{.temperature = 0};
  const std::vector<uint32_t> text = Generated(*decoder, {7}, 24 + 13, greedy);
  // The 24 positions hold the prompt and 23 tokens; the last 12 then begin anew.
  std::vector<int32_t> half(text.begin() + 12, text.begin() + 24);
  EXPECT_EQ(Generated(*decoder, half, 13, greedy), std::vector<uint32_t>(text.begin() + 24, text.end()));
}

TEST(Generation, OfALongPromptTheEndIsSeen) {
  const auto decoder = Decoder();
  std::vector<int32_t> prompt(100);
  std::iota(prompt.begin(), prompt.begin() + 50, 0);
  std::iota(prompt.begin() + 50, prompt.end(), 0);
  const SamplingOptions greedy{.temperature = 0};
  EXPECT_EQ(Generated(*decoder, prompt, 5, greedy),
            Generated(*decoder, std::vector<int32_t>(prompt.end() - 24, prompt.end()), 5, greedy));
}

TEST(Generation, EndsWhenAskedTo) {
  const auto decoder = Decoder();
  int tokens = 0;
  GenerationOptions options;
  options.max_tokens = 100;
  options.check = [&] { return tokens >= 3 ? absl::AbortedError("enough") : absl::OkStatus(); };
  options.on_token = [&](uint32_t) {
    ++tokens;
    return absl::OkStatus();
  };
  EXPECT_EQ(RunGeneration(*decoder, std::vector<int32_t>{1}, options).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(tokens, 3);
  options.check = [] { return absl::OkStatus(); };
  options.on_token = [](uint32_t) { return absl::CancelledError("gone"); };
  EXPECT_EQ(RunGeneration(*decoder, std::vector<int32_t>{1}, options).code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace penstock
