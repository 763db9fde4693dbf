#include "worker/runtime/staged_state_client.h"

#include <numeric>

#include "gtest/gtest.h"
#include "worker/ops/cpu/cpu_backend.h"

namespace penstock {
namespace {

// A service of 100 numbers: what is pushed is written down, what is pulled is element + 1000.
class NumbersClient : public StateClient {
 public:
  int shard_count() const override { return 1; }
  absl::Status Push(uint64_t, std::span<const GradientRange> ranges) override {
    ++pushes;
    for (const GradientRange& range : ranges) {
      for (int64_t i = 0; i < range.range.size(); ++i) {
        EXPECT_EQ(pushed[static_cast<size_t>(range.range.begin + i)], 0) << "twice: " << range.range.begin + i;
        pushed[static_cast<size_t>(range.range.begin + i)] = range.data[i];
      }
    }
    return status;
  }
  absl::Status Pull(uint64_t, std::span<const WeightRange> ranges, absl::Duration) override {
    ++pulls;
    for (const WeightRange& range : ranges) {
      for (int64_t i = 0; i < range.range.size(); ++i) {
        const float value = static_cast<float>(range.range.begin + i + 1000);
        if (range.rounded != nullptr) {
          range.rounded[i] = ToBfloat16(value);
        } else {
          range.data[i] = value;
        }
      }
    }
    return status;
  }
  absl::Status AwaitVersion(uint64_t, std::span<const ElementRange>, absl::Duration) override { return status; }
  void Prepare(int, uint64_t, const v1::StepInputs&, std::function<void(absl::StatusOr<v1::PreparedStep>)>) override {}
  void Commit(int, const v1::StepDecision&, const std::vector<v1::StepRecord>&,
              std::function<void(absl::StatusOr<uint64_t>)>) override {}
  void Cancel(const std::string&) override {}

  std::vector<float> pushed = std::vector<float>(100);
  int pushes = 0;
  int pulls = 0;
  absl::Status status;
};

class StagedStateClientTest : public testing::Test {
 protected:
  const std::unique_ptr<Backend> backend_ = CreateCpuBackend({.threads = 1}).value();
  NumbersClient inner_;
  // Runs of at most 7 floats.
  const std::unique_ptr<StateClient> client_ = StageThroughHost(&inner_, backend_.get(), 0, 56).value();
};

TEST_F(StagedStateClientTest, APushGoesInRunsAndNothingIsLost) {
  std::vector<float> numbers(100);
  std::iota(numbers.begin(), numbers.end(), 1.0f);
  // 3 + 40 + 1 elements, with gaps between.
  const std::vector<GradientRange> ranges = {
      {{0, 3}, &numbers[0]}, {{10, 50}, &numbers[10]}, {{99, 100}, &numbers[99]}};
  ASSERT_TRUE(client_->Push(1, ranges).ok());
  EXPECT_EQ(inner_.pushes, 7);
  for (size_t i = 0; i < 100; ++i) {
    const bool there = i < 3 || (i >= 10 && i < 50) || i == 99;
    EXPECT_EQ(inner_.pushed[i], there ? numbers[i] : 0) << i;
  }
}

TEST_F(StagedStateClientTest, APullComesInRunsOfEitherType) {
  std::vector<float> weights(100);
  std::vector<WeightRange> ranges = {{{5, 30}, &weights[5]}, {{30, 33}, &weights[30]}};
  ASSERT_TRUE(client_->Pull(1, ranges, absl::Seconds(1)).ok());
  EXPECT_EQ(inner_.pulls, 4);
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(weights[i], i >= 5 && i < 33 ? static_cast<float>(i + 1000) : 0) << i;
  // Twice as many of half the size.
  std::vector<Bfloat16> rounded(100);
  ranges = {{.range = {5, 33}, .data = nullptr, .kind = v1::STATE_KIND_UNSPECIFIED, .rounded = &rounded[5]}};
  ASSERT_TRUE(client_->Pull(1, ranges, absl::Seconds(1)).ok());
  EXPECT_EQ(inner_.pulls, 6);
  for (size_t i = 5; i < 33; ++i) {
    EXPECT_EQ(rounded[i], ToBfloat16(static_cast<float>(i + 1000))) << i;
  }
}

TEST_F(StagedStateClientTest, ErrorsComeBackAtTheFirstRun) {
  inner_.status = absl::FailedPreconditionError("fenced");
  std::vector<float> numbers(100);
  const std::vector<GradientRange> push = {{{0, 100}, numbers.data()}};
  EXPECT_TRUE(absl::IsFailedPrecondition(client_->Push(1, push)));
  EXPECT_EQ(inner_.pushes, 1);
  const std::vector<WeightRange> pull = {{{0, 100}, numbers.data()}};
  EXPECT_TRUE(absl::IsFailedPrecondition(client_->Pull(1, pull, absl::Seconds(1))));
  EXPECT_EQ(inner_.pulls, 1);
  // Nothing to move is no call.
  EXPECT_TRUE(client_->Push(1, {}).ok());
  EXPECT_EQ(inner_.pushes, 1);
}

}  // namespace
}  // namespace penstock
