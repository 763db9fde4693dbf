#include "core/random/counter.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

// Known answers of philox4x32 with 10 rounds, from the Random123 distribution (kat_vectors).
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Fowler, Noll and Vo's own test vectors for 64-bit FNV-1a.
TEST(StreamIdTest, KnownAnswers) {
  EXPECT_EQ(StreamId(""), 0xcbf29ce484222325u);
  EXPECT_EQ(StreamId("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(StreamId("foobar"), 0x85944171f73967e8u);
}

TEST(RandomBitsTest, WordsOfTheBlock) {
  const std::array<uint32_t, 4> block = Philox4x32({7, 0, 5, 0}, {3, 0});
  for (uint64_t word = 0; word < 4; ++word) EXPECT_EQ(RandomBits(3, 5, 7 * 4 + word), block[word]);
  EXPECT_EQ(RandomBits64(3, 5, 7), uint64_t{block[1]} << 32 | block[0]);
  // High halves reach the counter and the key.
  EXPECT_NE(RandomBits(3 + (uint64_t{1} << 32), 5, 28), block[0]);
  EXPECT_NE(RandomBits(3, 5 + (uint64_t{1} << 32), 28), block[0]);
  EXPECT_NE(RandomBits(3, 5, 28 + (uint64_t{1} << 34)), block[0]);
}

// Box and Muller in double with the C library, from the same words.
std::vector<double> Reference(uint64_t seed, uint64_t stream, uint64_t begin, size_t count) {
  std::vector<double> normals;
  for (uint64_t index = begin; index < begin + count; ++index) {
    const uint64_t pair = index / 2 * 2;
    // The uniform number is a float: its rounding is part of the definition.
    const float u = (static_cast<float>(static_cast<int32_t>(RandomBits(seed, stream, pair) / 2)) + 0.5f) * 0x1p-31f;
    const double angle = 2 * std::numbers::pi * (RandomBits(seed, stream, pair + 1) * 0x1p-32);
    const double radius = std::sqrt(-2 * std::log(double{u}));
    normals.push_back(radius * (index % 2 == 0 ? std::cos(angle) : std::sin(angle)));
  }
  return normals;
}

TEST(FillNormalTest, AgreesWithTheFormula) {
  const size_t count = 200000;
  std::vector<float> normals(count);
  FillNormal(11, 22, 1001, normals);
  const std::vector<double> reference = Reference(11, 22, 1001, count);
  for (size_t i = 0; i < count; ++i) ASSERT_NEAR(normals[i], reference[i], 2e-6) << i;
}

// Pinned bits: a change would change the initial weights of every job with a given seed.
TEST(FillNormalTest, BitsArePinned) {
  for (const VectorIsa isa : {VectorIsa::kV3, BestVectorIsa()}) {
    std::vector<float> normals(100000);
    FillNormal(1, StreamId("wte"), 0, normals, isa);
    uint64_t hash = 0;
    for (const float value : normals) hash = hash * 0x100000001b3 + std::bit_cast<uint32_t>(value);
    EXPECT_EQ(hash, 16646343133638379602u);
  }
}

TEST(FillNormalTest, AnyCutGivesTheSameBits) {
  std::vector<float> whole(3000);
  FillNormal(5, 6, 0, whole);
  for (const size_t step : {1u, 2u, 3u, 5u, 64u, 255u, 256u, 257u, 1000u}) {
    std::vector<float> cut(whole.size());
    for (size_t begin = 0; begin < cut.size(); begin += step) {
      FillNormal(5, 6, begin, std::span(cut).subspan(begin, std::min(step, cut.size() - begin)));
    }
    EXPECT_EQ(cut, whole) << step;
  }
}

TEST(FillNormalTest, LooksNormal) {
  const size_t count = 1 << 21;
  std::vector<float> normals(count);
  FillNormal(77, 88, uint64_t{1} << 40, normals);
  double mean = 0;
  double square = 0;
  double fourth = 0;
  size_t beyond_two = 0;
  for (const float value : normals) {
    const double x = value;
    ASSERT_TRUE(std::isfinite(x));
    mean += x;
    square += x * x;
    fourth += x * x * x * x;
    beyond_two += std::abs(x) > 2;
  }
  const double n = static_cast<double>(count);
  // Five standard errors each.
  EXPECT_NEAR(mean / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(square / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96 / n));
  const double tail = std::erfc(2 / std::numbers::sqrt2);
  EXPECT_NEAR(static_cast<double>(beyond_two) / n, tail, 5 * std::sqrt(tail / n));
  // Neighbours, and the two numbers of a pair, are not correlated.
  for (const size_t lag : {1u, 2u, 4u, 256u}) {
    double product = 0;
    for (size_t i = 0; i + lag < count; ++i) product += double{normals[i]} * normals[i + lag];
    EXPECT_NEAR(product / n, 0, 5 / std::sqrt(n)) << lag;
  }
}

TEST(FillNormalTest, SeedsAndStreamsDiffer) {
  std::set<float> first;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t stream = 0; stream < 10; ++stream) {
      float value = 0;
      FillNormal(seed, stream, 0, {&value, 1});
      first.insert(value);
    }
  }
  EXPECT_EQ(first.size(), 100u);
}

}  // namespace
}  // namespace penstock
