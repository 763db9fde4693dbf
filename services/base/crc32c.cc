#include "services/base/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace penstock {
namespace {

// The crc32 instruction takes three cycles but one can start in each, so three streams run at once: three neighbouring
// blocks, whose registers are joined afterwards. Long blocks make joining rare, short ones serve short inputs.
constexpr size_t kLongBlock = 4096;
constexpr size_t kShortBlock = 256;
static_assert(kLongBlock % 8 == 0 && kShortBlock % 8 == 0);

uint64_t Load64(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// What `zeros` zero bytes make of a CRC register. That map is linear over GF(2), so a table for each byte of the
// register holds the images, and the map of a register is the exclusive or of four of them.
class Shift {
 public:
  explicit Shift(size_t zeros) {
    for (size_t byte = 0; byte < 4; ++byte) {
      for (uint32_t bit = 0; bit < 8; ++bit) {
        uint64_t image = uint64_t{1} << (8 * byte + bit);
        for (size_t i = 0; i < zeros / 8; ++i) image = _mm_crc32_u64(image, 0);
        // Every value with this highest bit: the image of the bit and that of the rest, which is there already.
        for (uint32_t rest = 0; rest < (1u << bit); ++rest) {
          table_[byte][(1u << bit) | rest] = static_cast<uint32_t>(image) ^ table_[byte][rest];
        }
      }
    }
  }

  uint32_t operator()(uint32_t crc) const {
    return table_[0][crc & 0xff] ^ table_[1][(crc >> 8) & 0xff] ^ table_[2][(crc >> 16) & 0xff] ^ table_[3][crc >> 24];
  }

 private:
  std::array<std::array<uint32_t, 256>, 4> table_ = {};
};

// Consumes 3 * kBlock bytes.
template <size_t kBlock>
uint32_t ThreeBlocks(uint32_t crc, const uint8_t* bytes, const Shift& shift) {
  uint64_t first = crc, second = 0, third = 0;
  for (size_t i = 0; i < kBlock; i += 8) {
    first = _mm_crc32_u64(first, Load64(bytes + i));
    second = _mm_crc32_u64(second, Load64(bytes + kBlock + i));
    third = _mm_crc32_u64(third, Load64(bytes + 2 * kBlock + i));
  }
  const uint32_t joined = shift(static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second);
  return shift(joined) ^ static_cast<uint32_t>(third);
}

}  // namespace

uint32_t Crc32c(uint32_t crc, std::span<const uint8_t> bytes) {
  static const Shift long_shift(kLongBlock);
  static const Shift short_shift(kShortBlock);
  const uint8_t* next = bytes.data();
  size_t left = bytes.size();
  uint32_t state = ~crc;
  for (; left >= 3 * kLongBlock; next += 3 * kLongBlock, left -= 3 * kLongBlock) {
    state = ThreeBlocks<kLongBlock>(state, next, long_shift);
  }
  for (; left >= 3 * kShortBlock; next += 3 * kShortBlock, left -= 3 * kShortBlock) {
    state = ThreeBlocks<kShortBlock>(state, next, short_shift);
  }
  for (; left >= 8; next += 8, left -= 8) state = static_cast<uint32_t>(_mm_crc32_u64(state, Load64(next)));
  for (; left > 0; ++next, --left) state = _mm_crc32_u8(state, *next);
  return ~state;
}

}  // namespace penstock
