// What a backend does by itself: copies, sums, conversions, and what must have the parameter service's bits.
#include "worker/ops/backend.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "core/optimizer/adamw.h"
#include "core/optimizer/square_sum.h"
#include "gtest/gtest.h"
#include "worker/ops/testing/backends.h"

namespace penstock {
namespace {

class BackendItselfTest : public BackendTest {};

std::vector<float> Random(size_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(generator) * std::exp(3 * normal(generator));
  return values;
}

TEST_P(BackendItselfTest, CopiesInEveryDirection) {
  const std::vector<float> values = Random(1001, 1);
  const DeviceFloats a(backend_.get(), values), b(backend_.get(), 1001, 0.0F);
  ASSERT_TRUE(backend_->Copy({}, a.data(), b.data(), 4 * 1001).ok());
  EXPECT_EQ(b.Read(), values);
  ASSERT_TRUE(backend_->Zero({}, b.data() + 1, 4 * 999).ok());
  std::vector<float> expected(1001, 0.0F);
  expected.front() = values.front();
  expected.back() = values.back();
  EXPECT_EQ(b.Read(), expected);
  const auto host = backend_->AllocateHost(4 * 1001);
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_EQ((*host)->data()[4003], std::byte{0});
  ASSERT_TRUE(backend_->Copy({}, a.data(), (*host)->data(), 4 * 1001).ok());
  ASSERT_TRUE(backend_->Synchronize({}).ok());
  const float* copied = reinterpret_cast<const float*>((*host)->data());
  EXPECT_EQ(std::vector<float>(copied, copied + 1001), values);
  EXPECT_FALSE(backend_->Allocate(-1).ok());
  EXPECT_FALSE(backend_->AllocateHost(-1).ok());
}

TEST_P(BackendItselfTest, AddsOneByOne) {
  for (const size_t size : {0, 1, 1000, 70001}) {
    const std::vector<float> part = Random(size, 2), sum = Random(size, 3);
    const DeviceFloats part_(backend_.get(), part), sum_(backend_.get(), sum);
    ASSERT_TRUE(backend_->Add({}, {part_.data(), size}, {sum_.data(), size}).ok());
    std::vector<float> expected = sum;
    for (size_t i = 0; i < size; ++i) expected[i] += part[i];
    EXPECT_EQ(sum_.Read(), expected);
  }
}

TEST_P(BackendItselfTest, ConvertsBothWays) {
  const std::vector<float> values = Random(3001, 4);
  const DeviceFloats wide(backend_.get(), values), back(backend_.get(), 3001, -1.0F);
  const DeviceBfloats narrow(backend_.get(), 3001, -1.0F), expected(backend_.get(), values);
  ASSERT_TRUE(backend_->Convert({}, DataType::kFloat32, wide.data(), DataType::kBfloat16, narrow.data(), 3001).ok());
  EXPECT_EQ(narrow.Read(), expected.Read());
  ASSERT_TRUE(backend_->Convert({}, DataType::kBfloat16, narrow.data(), DataType::kFloat32, back.data(), 3001).ok());
  EXPECT_EQ(back.Read(), expected.Read());
}

TEST_P(BackendItselfTest, SquareSumsHaveTheServicesBits) {
  const std::vector<float> values = Random(20000, 5);
  const DeviceFloats values_(backend_.get(), values);
  // More than one launch takes.
  std::vector<std::span<const float>> pieces;
  std::vector<double> expected;
  for (size_t i = 0, at = 0; i < 300; ++i) {
    const size_t size = 1 + i % 97;
    pieces.emplace_back(values_.data() + at, size);
    expected.push_back(SumOfSquares(std::span(values).subspan(at, size)));
    at += size;
  }
  const auto memory = backend_->AllocateHost(static_cast<int64_t>(pieces.size() * sizeof(double)));
  ASSERT_TRUE(memory.ok()) << memory.status();
  auto* const sums = reinterpret_cast<double*>((*memory)->data());
  // By two calls, whose lists are on their way at the same time.
  const std::span<const std::span<const float>> all(pieces);
  ASSERT_TRUE(backend_->SquareSums({}, all.first(100), sums).ok());
  ASSERT_TRUE(backend_->SquareSums({}, all.subspan(100), sums + 100).ok());
  ASSERT_TRUE(backend_->Synchronize({}).ok());
  EXPECT_EQ(std::vector<double>(sums, sums + pieces.size()), expected);
  ASSERT_TRUE(backend_->SquareSums({}, {}, nullptr).ok());
}

TEST_P(BackendItselfTest, AdamWHasTheServicesBits) {
  const AdamWParams params{.learning_rate = 1e-3F,
                           .beta1 = 0.9F,
                           .beta2 = 0.95F,
                           .epsilon = 1e-8F,
                           .weight_decay = 0.1F,
                           .gradient_scale = 0.3F,
                           .bias_correction1 = 0.19F,
                           .bias_correction2 = 0.0975F};
  std::vector<float> g = Random(5003, 6), w = Random(5003, 7), m = Random(5003, 8), v = Random(5003, 9);
  for (float& value : v) value = std::abs(value);
  const DeviceFloats g_(backend_.get(), g), w_(backend_.get(), w), m_(backend_.get(), m), v_(backend_.get(), v);
  const auto update = [&](std::span<Bfloat16> rounded) {
    return backend_->AdamW({}, params, {g_.data(), 5003}, {w_.data(), 5003}, {m_.data(), 5003}, {v_.data(), 5003},
                           rounded);
  };
  ASSERT_TRUE(update({}).ok());
  AdamWUpdate(params, g, w, m, v);
  EXPECT_EQ(w_.Read(), w);
  EXPECT_EQ(m_.Read(), m);
  EXPECT_EQ(v_.Read(), v);
  // Again, with the weights rounded to bf16.
  const DeviceFloats rounded_(backend_.get(), std::vector<float>(2502));
  ASSERT_TRUE(update({reinterpret_cast<Bfloat16*>(rounded_.data()), 5003}).ok());
  std::vector<Bfloat16> rounded(5003);
  AdamWUpdate(params, g, w, m, v, rounded);
  EXPECT_EQ(w_.Read(), w);
  const std::vector<float> read = rounded_.Read();
  EXPECT_EQ(std::memcmp(read.data(), rounded.data(), rounded.size() * sizeof(Bfloat16)), 0);
}

INSTANTIATE_TEST_SUITE_P(Backends, BackendItselfTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
