#include "services/base/crc32c.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace penstock {
namespace {

// One bit at a time, from the polynomial.
uint32_t SlowCrc32c(std::span<const uint8_t> bytes) {
  uint32_t state = 0xffffffff;
  for (uint8_t byte : bytes) {
    state ^= byte;
    for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1) != 0 ? 0x82f63b78 : 0);
  }
  return ~state;
}

std::vector<uint8_t> Noise(size_t size) {
  std::vector<uint8_t> bytes(size);
  uint64_t state = 88172645463325252;
  for (uint8_t& byte : bytes) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    byte = static_cast<uint8_t>(state >> 32);
  }
  return bytes;
}

// RFC 3720, B.4, and the check value of the CRC catalogue.
TEST(Crc32cTest, KnownAnswers) {
  const std::string digits = "123456789";
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(digits))), 0xe3069283);
  std::vector<uint8_t> bytes(32, 0);
  EXPECT_EQ(Crc32c(bytes), 0x8a9136aa);
  bytes.assign(32, 0xff);
  EXPECT_EQ(Crc32c(bytes), 0x62a8ab43);
  std::iota(bytes.begin(), bytes.end(), 0);
  EXPECT_EQ(Crc32c(bytes), 0x46dd794e);
  std::reverse(bytes.begin(), bytes.end());
  EXPECT_EQ(Crc32c(bytes), 0x113fdb5c);
  EXPECT_EQ(Crc32c(std::span<const uint8_t>()), 0u);
}

// Around every length at which another loop takes over, at every alignment.
TEST(Crc32cTest, EqualsTheDefinitionAtEveryLengthAndAlignment) {
  const std::vector<uint8_t> noise = Noise(40'000);
  for (size_t length : {0,    1,    7,    8,    9,     255,   767,   768,   769,   1023,  1024,
                        1087, 1535, 1536, 1600, 12287, 12288, 12289, 13056, 25000, 39'000}) {
    for (size_t offset = 0; offset < 9; ++offset) {
      const std::span<const uint8_t> bytes = std::span(noise).subspan(offset, length);
      ASSERT_EQ(Crc32c(bytes), SlowCrc32c(bytes)) << "length " << length << ", offset " << offset;
    }
  }
}

TEST(Crc32cTest, ExtendsOverAnyCut) {
  const std::vector<uint8_t> noise = Noise(30'000);
  const std::span<const uint8_t> all(noise);
  for (size_t cut : {0, 1, 768, 12'288, 29'999, 30'000}) {
    EXPECT_EQ(Crc32c(Crc32c(all.first(cut)), all.subspan(cut)), Crc32c(all)) << "cut at " << cut;
  }
}

TEST(Crc32cTest, CopiesWhatItChecks) {
  const std::vector<uint8_t> noise = Noise(40'000);
  for (size_t length : {0, 1, 1023, 1024, 1088, 1500, 4096, 25'001, 39'000}) {
    for (size_t offset : {0, 1, 63}) {
      const std::span<const uint8_t> from = std::span(noise).subspan(offset, length);
      std::vector<uint8_t> to(length + 2, 0xaa);
      EXPECT_EQ(CopyWithCrc32c(from, to.data() + 1), SlowCrc32c(from)) << "length " << length << ", offset " << offset;
      EXPECT_TRUE(std::equal(from.begin(), from.end(), to.begin() + 1)) << "length " << length << ", offset " << offset;
      EXPECT_EQ(to.front(), 0xaa);
      EXPECT_EQ(to.back(), 0xaa);
    }
  }
}

TEST(Crc32cTest, SeesEveryFlippedBit) {
  std::vector<uint8_t> noise = Noise(3000);
  const uint32_t good = Crc32c(noise);
  for (size_t bit = 0; bit < 8 * noise.size(); bit += 37) {
    noise[bit / 8] ^= 1 << (bit % 8);
    EXPECT_NE(Crc32c(noise), good);
    noise[bit / 8] ^= 1 << (bit % 8);
  }
}

}  // namespace
}  // namespace penstock
