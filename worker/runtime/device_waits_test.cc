// What the host and the device wait for where both use the same memory, on the emulator, whose device is late: a wait
// that is missing shows as garbage, or as a copy of what came later.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/staged_state_client.h"

namespace penstock {
namespace {

constexpr int64_t kSize = 100;

// A service of 100 numbers: what is pushed is written down, what is pulled is the version and the element.
class NumbersClient : public StateClient {
 public:
  int shard_count() const override { return 1; }
  absl::Status Push(uint64_t, std::span<const GradientRange> ranges) override {
    for (const GradientRange& range : ranges) {
      std::memcpy(&pushed[static_cast<size_t>(range.range.begin)], range.data,
                  static_cast<size_t>(range.range.size()) * sizeof(float));
    }
    return status;
  }
  absl::Status Pull(uint64_t version, std::span<const WeightRange> ranges, absl::Duration) override {
    for (const WeightRange& range : ranges) {
      for (int64_t i = 0; i < range.range.size(); ++i) range.data[i] = Value(version, range.range.begin + i);
    }
    return status;
  }
  absl::Status AwaitVersion(uint64_t, std::span<const ElementRange>, absl::Duration) override { return status; }
  void Prepare(int, uint64_t, const v1::StepInputs&, std::function<void(absl::StatusOr<v1::PreparedStep>)>) override {}
  void Commit(int, const v1::StepDecision&, const std::vector<v1::StepRecord>&,
              std::function<void(absl::StatusOr<uint64_t>)>) override {}
  void Cancel(const std::string&) override {}

  static float Value(uint64_t version, int64_t element) {
    return static_cast<float>(version * 1000) + static_cast<float>(element);
  }

  std::vector<float> pushed = std::vector<float>(kSize);
  absl::Status status;
};

class DeviceWaitsTest : public testing::Test {
 protected:
  std::unique_ptr<StateClient> NewClient() { return StageThroughHost(&inner_, backend_.get(), 0, 56).value(); }
  void Write(const std::vector<float>& values) {
    ASSERT_TRUE(backend_->Copy({}, values.data(), memory_->data(), kBytes).ok());
  }
  std::vector<float> Read() {
    std::vector<float> values(kSize);
    EXPECT_TRUE(backend_->Copy({}, memory_->data(), values.data(), kBytes).ok());
    EXPECT_TRUE(backend_->Synchronize({}).ok());
    return values;
  }
  float* numbers() const { return reinterpret_cast<float*>(memory_->data()); }

  static constexpr int64_t kBytes = kSize * static_cast<int64_t>(sizeof(float));
  const std::unique_ptr<Backend> backend_ = CreateEmulatedDevice();
  const std::unique_ptr<DeviceMemory> memory_ = backend_->Allocate(kBytes).value();
  NumbersClient inner_;
};

TEST_F(DeviceWaitsTest, APushHasWhatTheDeviceHas) {
  const auto client = NewClient();
  for (int round = 0; round < 20; ++round) {
    std::vector<float> numbers_now(kSize);
    std::iota(numbers_now.begin(), numbers_now.end(), static_cast<float>(1000 * round));
    Write(numbers_now);
    const std::vector<GradientRange> ranges = {{{0, kSize}, numbers()}};
    ASSERT_TRUE(client->Push(1, ranges).ok());
    EXPECT_EQ(inner_.pushed, numbers_now) << round;
  }
}

TEST_F(DeviceWaitsTest, APullOfManyRunsKeepsThemApart) {
  const auto client = NewClient();
  for (uint64_t version = 1; version <= 20; ++version) {
    const std::vector<WeightRange> ranges = {{{0, kSize}, numbers()}};
    ASSERT_TRUE(client->Pull(version, ranges, absl::Seconds(1)).ok());
    const std::vector<float> values = Read();
    for (int64_t i = 0; i < kSize; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], NumbersClient::Value(version, i));
  }
}

// After an error the next run is still being copied: the buffer may only go when it is there.
TEST_F(DeviceWaitsTest, AFailedPushLeavesNoCopyBehind) {
  inner_.status = absl::UnavailableError("the shard is gone");
  for (int round = 0; round < 20; ++round) {
    const auto client = NewClient();
    const std::vector<GradientRange> ranges = {{{0, kSize}, numbers()}};
    EXPECT_TRUE(absl::IsUnavailable(client->Push(1, ranges)));
  }
}

// Memory is zero for every stream as soon as there is any.
TEST_F(DeviceWaitsTest, NewMemoryIsZeroForOtherStreams) {
  const std::unique_ptr<DeviceMemory> host = backend_->AllocateHost(kBytes).value();
  void* const beside = NewEmulatedStream();
  for (int round = 0; round < 20; ++round) {
    const std::unique_ptr<DeviceMemory> memory = backend_->Allocate(kBytes).value();
    ASSERT_TRUE(backend_->Copy({.stream = beside}, memory->data(), host->data(), kBytes).ok());
    ASSERT_TRUE(backend_->Synchronize({.stream = beside}).ok());
    for (int64_t i = 0; i < kBytes; ++i) ASSERT_EQ(host->data()[i], std::byte{0}) << i;
  }
}

TEST_F(DeviceWaitsTest, CopiesBesideTheStreamHaveWhatItHasByThen) {
  const std::unique_ptr<DeviceMemory> host = backend_->AllocateHost(kBytes).value();
  for (int round = 1; round <= 20; ++round) {
    const std::vector<float> now(kSize, static_cast<float>(round));
    Write(now);
    const CopySpan copy = {memory_->data(), host->data(), kBytes};
    auto fence = backend_->CopyBeside({}, {&copy, 1});
    ASSERT_TRUE(fence.ok());
    // What the stream writes next waits for the copy, and the host for both.
    ASSERT_TRUE((*fence)->Block({}).ok());
    ASSERT_TRUE(backend_->Zero({}, memory_->data(), kBytes).ok());
    ASSERT_TRUE((*fence)->Wait().ok());
    EXPECT_EQ(std::memcmp(host->data(), now.data(), kBytes), 0) << round;
  }
}

}  // namespace
}  // namespace penstock
