#include "services/base/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace penstock {
namespace {

// The instruction takes three cycles and starts one each cycle, so three lanes run side by side and are joined by shifting the
// earlier ones over the length of a lane.
constexpr size_t kLaneBytes = 4096;
constexpr uint32_t kPolynomial = 0x82f63b78;

using Matrix = std::array<uint32_t, 32>;

constexpr uint32_t Times(const Matrix& matrix, uint32_t vector) {
  uint32_t sum = 0;
  for (int bit = 0; vector != 0; ++bit, vector >>= 1) {
    if (vector & 1) sum ^= matrix[bit];
  }
  return sum;
}

constexpr Matrix Square(const Matrix& matrix) {
  Matrix square{};
  for (int bit = 0; bit < 32; ++bit) square[bit] = Times(matrix, matrix[bit]);
  return square;
}

// The linear operator on checksums that `bytes` (a power of two) zero bytes are.
constexpr Matrix ZeroBytes(size_t bytes) {
  Matrix one_bit{};
  one_bit[0] = kPolynomial;
  for (int bit = 1; bit < 32; ++bit) one_bit[bit] = uint32_t{1} << (bit - 1);
  Matrix matrix = one_bit;
  for (size_t bits = 1; bits < 8 * bytes; bits *= 2) matrix = Square(matrix);
  return matrix;
}

// The operator as four tables, one for each byte of the checksum.
struct ShiftTable {
  std::array<std::array<uint32_t, 256>, 4> rows{};

  constexpr explicit ShiftTable(const Matrix& matrix) {
    for (int row = 0; row < 4; ++row) {
      for (uint32_t byte = 0; byte < 256; ++byte) rows[row][byte] = Times(matrix, byte << (8 * row));
    }
  }
  uint32_t operator()(uint32_t crc) const {
    return rows[0][crc & 0xff] ^ rows[1][(crc >> 8) & 0xff] ^ rows[2][(crc >> 16) & 0xff] ^ rows[3][crc >> 24];
  }
};

uint64_t Load(const uint8_t* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

}  // namespace

uint32_t Crc32c(uint32_t crc, std::span<const uint8_t> data) {
  static const ShiftTable shift(ZeroBytes(kLaneBytes));
  const uint8_t* at = data.data();
  size_t left = data.size();
  uint64_t state = ~crc;
  while (left >= 3 * kLaneBytes) {
    uint64_t lane1 = 0;
    uint64_t lane2 = 0;
    for (size_t i = 0; i < kLaneBytes; i += 8) {
      state = _mm_crc32_u64(state, Load(at + i));
      lane1 = _mm_crc32_u64(lane1, Load(at + kLaneBytes + i));
      lane2 = _mm_crc32_u64(lane2, Load(at + 2 * kLaneBytes + i));
    }
    state = shift(static_cast<uint32_t>(state)) ^ lane1;
    state = shift(static_cast<uint32_t>(state)) ^ lane2;
    at += 3 * kLaneBytes;
    left -= 3 * kLaneBytes;
  }
  for (; left >= 8; at += 8, left -= 8) state = _mm_crc32_u64(state, Load(at));
  for (; left > 0; ++at, --left) state = _mm_crc32_u8(static_cast<uint32_t>(state), *at);
  return ~static_cast<uint32_t>(state);
}

}  // namespace penstock
