#include "core/random/counter.h"

#include "core/random/philox.h"

namespace penstock {
namespace {

uint32_t Low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t High(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

std::array<uint32_t, 4> Block(uint64_t seed, uint64_t stream, uint64_t block) {
  return Philox4x32({Low(block), High(block), Low(stream), High(stream)}, {Low(seed), High(seed)});
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter, const std::array<uint32_t, 2>& key) {
  std::array<uint32_t, 4> x = counter;
  philox::Rounds(x[0], x[1], x[2], x[3], key[0], key[1]);
  return x;
}

uint64_t StreamId(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  return hash;
}

uint32_t RandomBits(uint64_t seed, uint64_t stream, uint64_t index) {
  return Block(seed, stream, index / 4)[index % 4];
}

uint64_t RandomBits64(uint64_t seed, uint64_t stream, uint64_t index) {
  const std::array<uint32_t, 4> words = Block(seed, stream, index);
  return uint64_t{words[1]} << 32 | words[0];
}

}  // namespace penstock
