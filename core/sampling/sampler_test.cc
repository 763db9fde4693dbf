#include "core/sampling/sampler.h"

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

// Probabilities 0.5, 0.25, 0.125, 0.125 at temperature 1.
const std::vector<float> kLogits = {std::log(0.125F), std::log(0.5F), std::log(0.25F), std::log(0.125F)};

std::vector<int> Counts(const SamplingOptions& options, int draws) {
  std::vector<int> counts(kLogits.size());
  for (int i = 0; i < draws; ++i) {
    const auto token = SampleToken(kLogits, options, static_cast<uint64_t>(i));
    EXPECT_TRUE(token.ok()) << token.status();
    ++counts[*token];
  }
  return counts;
}

TEST(Sampler, TemperatureZeroTakesTheLikeliestAndOfEqualOnesTheFirst) {
  EXPECT_EQ(Counts({.temperature = 0}, 10), (std::vector<int>{0, 10, 0, 0}));
  EXPECT_EQ(*SampleToken(std::vector<float>{1, 3, 3}, {.temperature = 0}, 0), 1u);
}

TEST(Sampler, DrawsByProbability) {
  const std::vector<int> counts = Counts({}, 40'000);
  // Five standard deviations.
  EXPECT_NEAR(counts[1], 20'000, 500);
  EXPECT_NEAR(counts[2], 10'000, 440);
  EXPECT_NEAR(counts[0], 5'000, 330);
  EXPECT_NEAR(counts[3], 5'000, 330);
}

TEST(Sampler, TemperatureSharpens) {
  // Squared: 16, 4, 1, 1 of 22.
  const std::vector<int> counts = Counts({.temperature = 0.5}, 22'000);
  EXPECT_NEAR(counts[1], 16'000, 340);
  EXPECT_NEAR(counts[2], 4'000, 290);
}

TEST(Sampler, TopKAndTopPLeaveTheOthersOut) {
  const std::vector<int> two = Counts({.top_k = 2}, 3'000);
  EXPECT_EQ(two[0] + two[3], 0);
  EXPECT_NEAR(two[1], 2'000, 130);
  EXPECT_EQ(Counts({.top_k = 1}, 10)[1], 10);
  // 0.5 is not 0.6 yet; 0.75 is.
  const std::vector<int> nucleus = Counts({.top_p = 0.6}, 3'000);
  EXPECT_EQ(nucleus[0] + nucleus[3], 0);
  EXPECT_GT(nucleus[2], 0);
  EXPECT_EQ(Counts({.top_p = 1e-9}, 10)[1], 10);
  // Among the two likeliest the first one has two thirds.
  EXPECT_EQ(Counts({.top_k = 2, .top_p = 0.6}, 10)[1], 10);
  EXPECT_EQ(Counts({.top_k = 100}, 40), Counts({}, 40));
}

TEST(Sampler, TheSameSeedAndPositionGiveTheSameToken) {
  std::set<std::vector<uint32_t>> sequences;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    std::vector<uint32_t> sequence;
    for (uint64_t position = 0; position < 30; ++position) {
      const SamplingOptions options{.seed = seed};
      sequence.push_back(*SampleToken(kLogits, options, position));
      EXPECT_EQ(sequence.back(), *SampleToken(kLogits, options, position));
    }
    sequences.insert(sequence);
  }
  EXPECT_EQ(sequences.size(), 8u);
}

TEST(Sampler, WhatMakesNoSenseIsRefused) {
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = -1}, SamplingOptions{.temperature = std::nan("")},
        SamplingOptions{.temperature = 1e9}, SamplingOptions{.top_p = 0}, SamplingOptions{.top_p = 1.5}}) {
    EXPECT_EQ(CheckSampling(options).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(CheckSampling({}).ok());
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::nanf("")}) {
    EXPECT_FALSE(SampleToken(std::vector<float>{0, bad}, {}, 0).ok());
  }
  EXPECT_EQ(*SampleToken(std::vector<float>{0, 3e38F}, {.temperature = 1e-3}, 0), 1u);
}

}  // namespace
}  // namespace penstock
