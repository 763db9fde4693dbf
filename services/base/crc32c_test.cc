#include "services/base/crc32c.h"

#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// One bit after the other, from the definition.
uint32_t SlowCrc32c(std::span<const uint8_t> data) {
  uint32_t crc = ~0u;
  for (uint8_t byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78 : 0);
  }
  return ~crc;
}

TEST(Crc32cTest, KnownAnswers) {
  EXPECT_EQ(Crc32c(Bytes("")), 0u);
  EXPECT_EQ(Crc32c(Bytes("123456789")), 0xe3069283);
  // RFC 3720, B.4.
  EXPECT_EQ(Crc32c(std::vector<uint8_t>(32, 0x00)), 0x8a9136aa);
  EXPECT_EQ(Crc32c(std::vector<uint8_t>(32, 0xff)), 0x62a8ab43);
}

TEST(Crc32cTest, EveryLengthAroundTheLanesAgreesWithTheDefinition) {
  std::vector<uint8_t> data(3 * 3 * 4096 + 100);
  uint32_t random = 1;
  for (uint8_t& byte : data) byte = (random = random * 1664525 + 1013904223) >> 24;
  for (size_t length : {1ul, 7ul, 8ul, 9ul, 4096ul, 12287ul, 12288ul, 12289ul, 24576ul, 24583ul, data.size()}) {
    std::span<const uint8_t> part(data.data() + 1, length - (length == data.size()));
    EXPECT_EQ(Crc32c(part), SlowCrc32c(part)) << length;
  }
}

TEST(Crc32cTest, ContinuesFromAnEarlierPart) {
  std::vector<uint8_t> data(30000, 7);
  std::span<const uint8_t> all(data);
  for (size_t cut : {0ul, 1ul, 12288ul, 29999ul}) {
    EXPECT_EQ(Crc32c(Crc32c(all.first(cut)), all.subspan(cut)), Crc32c(all));
  }
}

}  // namespace
}  // namespace penstock
