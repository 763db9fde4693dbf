#include "services/base/crc32c.h"

#include <immintrin.h>

#include <array>
#include <cstring>

#include "core/base/vector_isa.h"

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

uint32_t Serial(uint32_t state, const uint8_t* next, size_t left) {
  static const Shift long_shift(kLongBlock);
  static const Shift short_shift(kShortBlock);
  for (; left >= 3 * kLongBlock; next += 3 * kLongBlock, left -= 3 * kLongBlock) {
    state = ThreeBlocks<kLongBlock>(state, next, long_shift);
  }
  for (; left >= 3 * kShortBlock; next += 3 * kShortBlock, left -= 3 * kShortBlock) {
    state = ThreeBlocks<kShortBlock>(state, next, short_shift);
  }
  for (; left >= 8; next += 8, left -= 8) state = static_cast<uint32_t>(_mm_crc32_u64(state, Load64(next)));
  for (; left > 0; ++next, --left) state = _mm_crc32_u8(state, *next);
  return state;
}

// Folding (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009): 128
// bits move N bits further by two carry-less products, of the lower half with x^(N+32) mod P and of the upper one with
// x^(N-32) mod P. Four vectors of four such lanes each go through the bytes; what they leave has the same remainder as
// all that was folded, and the crc32 instruction takes it from there.
constexpr size_t kVectorBytes = 64;
constexpr size_t kFoldBytes = 4 * kVectorBytes;
// Below this, three streams are as quick.
constexpr size_t kFoldBytesMin = 4 * kFoldBytes;

// x^exponent mod P, bits reversed, times x: a product of two reversed numbers is one bit short.
uint64_t Power(size_t exponent) {
  uint32_t power = 0x80000000;
  for (size_t i = 0; i < exponent; ++i) power = (power >> 1) ^ ((power & 1) != 0 ? 0x82f63b78 : 0);
  return uint64_t{power} << 1;
}

struct FoldConstants {
  explicit FoldConstants(size_t bytes) : low(Power(8 * bytes + 32)), high(Power(8 * bytes - 32)) {}
  uint64_t low;
  uint64_t high;
};

#define PENSTOCK_FOLD_TARGET gnu::target("avx512f,avx512bw,avx512vl,vpclmulqdq,pclmul,sse4.2")

[[PENSTOCK_FOLD_TARGET, gnu::always_inline]] inline __m512i Fold(__m512i bits, __m512i constants, __m512i next) {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(bits, constants, 0x00),
                                   _mm512_clmulepi64_epi128(bits, constants, 0x11), next, 0x96);
}

// Takes and, where `to` isn't null, copies as many bytes as fill vectors; answers with the state after them.
template <bool kCopy>
[[PENSTOCK_FOLD_TARGET]] uint32_t Folded(uint32_t state, const uint8_t* from, size_t vectors, uint8_t* to) {
  static const FoldConstants four(kFoldBytes);
  static const FoldConstants one(kVectorBytes);
  const auto load = [&](size_t vector) __attribute__((target("avx512f"))) {
    const __m512i bits = _mm512_loadu_si512(from + vector * kVectorBytes);
    if constexpr (kCopy) _mm512_storeu_si512(to + vector * kVectorBytes, bits);
    return bits;
  };
  const __m512i by_four =
      _mm512_set_epi64(four.high, four.low, four.high, four.low, four.high, four.low, four.high, four.low);
  const __m512i by_one = _mm512_set_epi64(one.high, one.low, one.high, one.low, one.high, one.low, one.high, one.low);
  __m512i a = _mm512_xor_si512(load(0), _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  __m512i b = load(1), c = load(2), d = load(3);
  size_t vector = 4;
  for (; vector + 4 <= vectors; vector += 4) {
    a = Fold(a, by_four, load(vector));
    b = Fold(b, by_four, load(vector + 1));
    c = Fold(c, by_four, load(vector + 2));
    d = Fold(d, by_four, load(vector + 3));
  }
  a = Fold(Fold(Fold(a, by_one, b), by_one, c), by_one, d);
  for (; vector < vectors; ++vector) a = Fold(a, by_one, load(vector));
  uint8_t rest[kVectorBytes];
  _mm512_storeu_si512(rest, a);
  return Serial(0, rest, kVectorBytes);
}

bool CanFold() {
  static const bool can = BestVectorIsa() == VectorIsa::kV4 && __builtin_cpu_supports("vpclmulqdq");
  return can;
}

}  // namespace

uint32_t Crc32c(uint32_t crc, std::span<const uint8_t> bytes) {
  uint32_t state = ~crc;
  size_t done = 0;
  if (bytes.size() >= kFoldBytesMin && CanFold()) {
    done = bytes.size() / kVectorBytes * kVectorBytes;
    state = Folded<false>(state, bytes.data(), done / kVectorBytes, nullptr);
  }
  return ~Serial(state, bytes.data() + done, bytes.size() - done);
}

uint32_t CopyWithCrc32c(std::span<const uint8_t> from, uint8_t* to) {
  if (from.size() < kFoldBytesMin || !CanFold()) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
    return Crc32c(std::span<const uint8_t>(to, from.size()));
  }
  const size_t done = from.size() / kVectorBytes * kVectorBytes;
  const uint32_t state = Folded<true>(~uint32_t{0}, from.data(), done / kVectorBytes, to);
  if (done < from.size()) std::memcpy(to + done, from.data() + done, from.size() - done);
  return ~Serial(state, to + done, from.size() - done);
}

}  // namespace penstock
