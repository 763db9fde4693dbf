#include "services/data/samples.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

namespace penstock {
namespace {

// Token i is i.
class CountingCorpus final : public Corpus {
 public:
  explicit CountingCorpus(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }
  const std::string& path() const override { return path_; }
  absl::Status Read(int64_t begin, std::span<int32_t> out) const override {
    if (begin < 0 || begin + static_cast<int64_t>(out.size()) > size_) return absl::OutOfRangeError("outside");
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int32_t>(begin + static_cast<int64_t>(i));
    return absl::OkStatus();
  }

 private:
  const int64_t size_;
  const std::string path_ = "counting";
};

Samples Make(int64_t tokens, uint64_t seed, double validation_ratio, uint32_t seq_length) {
  auto samples = Samples::Create(std::make_unique<CountingCorpus>(tokens), seed, validation_ratio, seq_length);
  EXPECT_TRUE(samples.ok()) << samples.status();
  return *std::move(samples);
}

TEST(SamplesTest, SplitHoldsOutTheTail) {
  const CorpusSplit split = SplitCorpus(1000, 0.1, 16);
  EXPECT_EQ(split.training_tokens, 900);
  EXPECT_EQ(split.validation_tokens, 100);
  EXPECT_EQ(split.training_windows, 56);   // 56 * 16 + 1 = 897
  EXPECT_EQ(split.validation_windows, 6);  // 6 * 16 + 1 = 97
  // The window's last target must be there.
  EXPECT_EQ(SplitCorpus(32, 0, 16).training_windows, 1);
  EXPECT_EQ(SplitCorpus(33, 0, 16).training_windows, 2);
  EXPECT_EQ(SplitCorpus(16, 0, 16).training_windows, 0);
  EXPECT_EQ(SplitCorpus(0, 0.5, 16).training_windows, 0);
  // Nonsense loses nobody's tokens.
  EXPECT_EQ(SplitCorpus(100, std::numeric_limits<double>::quiet_NaN(), 16).training_tokens, 100);
  EXPECT_EQ(SplitCorpus(100, 1e300, 16).training_tokens, 0);
  EXPECT_EQ(SplitCorpus(100, -1, 16).training_tokens, 100);
}

TEST(SamplesTest, ASampleIsItsWindow) {
  const Samples samples = Make(1000, 1, 0.1, 16);
  std::vector<int32_t> tokens(samples.window_tokens());
  ASSERT_EQ(tokens.size(), 17u);
  for (uint64_t index = 0; index < 200; ++index) {
    ASSERT_TRUE(samples.ReadTraining(index, tokens).ok());
    const int32_t first = static_cast<int32_t>(samples.TrainingWindow(index)) * 16;
    for (int i = 0; i < 17; ++i) ASSERT_EQ(tokens[i], first + i);
    // Nothing of the held-out tail.
    ASSERT_LT(tokens.back(), 900);
  }
}

// For several sizes and seeds: each pass has every window once, in another order than the pass before.
TEST(SamplesTest, NoSampleIsLostOrRepeatedInAPass) {
  for (const int64_t tokens : {18, 50, 1000, 70'001}) {
    for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, std::numeric_limits<uint64_t>::max()}) {
      const Samples samples = Make(tokens, seed, 0, 16);
      const auto windows = static_cast<uint64_t>(samples.training_windows());
      std::vector<int64_t> before;
      for (uint64_t pass = 0; pass < 3; ++pass) {
        std::vector<int64_t> order;
        for (uint64_t i = 0; i < windows; ++i) order.push_back(samples.TrainingWindow(pass * windows + i));
        EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), windows);
        if (windows > 10) {
          EXPECT_NE(order, before);
        }
        before = order;
      }
    }
  }
}

TEST(SamplesTest, OrderDependsOnTheSeed) {
  const Samples a = Make(10'000, 1, 0, 16), b = Make(10'000, 2, 0, 16), again = Make(10'000, 1, 0, 16);
  int same = 0;
  for (uint64_t index = 0; index < 600; ++index) {
    EXPECT_EQ(a.TrainingWindow(index), again.TrainingWindow(index));
    same += a.TrainingWindow(index) == b.TrainingWindow(index);
  }
  EXPECT_LT(same, 20);
}

TEST(SamplesTest, ValidationSamplesAreTheTailInOrder) {
  const Samples samples = Make(1000, 1, 0.1, 16);
  ASSERT_EQ(samples.validation_windows(), 6);
  std::vector<int32_t> tokens(17);
  for (uint64_t index = 0; index < 6; ++index) {
    ASSERT_TRUE(samples.ReadValidation(index, tokens).ok());
    EXPECT_EQ(tokens.front(), 900 + 16 * static_cast<int32_t>(index));
    EXPECT_EQ(tokens.back(), 900 + 16 * static_cast<int32_t>(index) + 16);
  }
  EXPECT_TRUE(absl::IsOutOfRange(samples.ReadValidation(6, tokens)));
  EXPECT_TRUE(absl::IsOutOfRange(samples.ReadValidation(std::numeric_limits<uint64_t>::max(), tokens)));
}

TEST(SamplesTest, BuffersOfAnotherLengthAreRefused) {
  const Samples samples = Make(1000, 1, 0.1, 16);
  std::vector<int32_t> tokens(16);
  EXPECT_TRUE(absl::IsInvalidArgument(samples.ReadTraining(0, tokens)));
  EXPECT_TRUE(absl::IsInvalidArgument(samples.ReadValidation(0, tokens)));
}

TEST(SamplesTest, TooShortACorpusIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Samples::Create(std::make_unique<CountingCorpus>(16), 1, 0, 16).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Samples::Create(std::make_unique<CountingCorpus>(100), 1, 0.9, 16).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Samples::Create(std::make_unique<CountingCorpus>(100), 1, 0, 0).status()));
}

}  // namespace
}  // namespace penstock
