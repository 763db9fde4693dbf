// CRC32C (Castagnoli; polynomial 0x1EDC6F41 reflected, initial and final inversion; RFC 3720, B.4): the checksum of
// every chunk of weights and gradients on the wire.
//
//   uint32_t crc = Crc32c(header);
//   crc = Crc32c(crc, payload);         // of both, one after the other
//
// Folds 256 bytes at a time by carry-less products where the processor has them for vectors (VPCLMULQDQ), and uses the
// crc32 instruction on three streams at once elsewhere. Thread-safe.
#ifndef PENSTOCK_SERVICES_BASE_CRC32C_H_
#define PENSTOCK_SERVICES_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock {

// The CRC of what `crc` was taken of, followed by `bytes`; 0 is the CRC of nothing.
uint32_t Crc32c(uint32_t crc, std::span<const uint8_t> bytes);

inline uint32_t Crc32c(std::span<const uint8_t> bytes) { return Crc32c(0, bytes); }

inline uint32_t Crc32c(std::span<const std::byte> bytes) {
  return Crc32c(0, std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

// Copies `from` to `to`, which has room for it, in the same pass; the CRC of what was copied.
uint32_t CopyWithCrc32c(std::span<const uint8_t> from, uint8_t* to);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_CRC32C_H_
