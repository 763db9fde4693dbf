#include "services/checkpoint/digest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"

namespace penstock {
namespace {

constexpr size_t kPieceDigestBytes = kStateClasses * kDigestBytes;

Digest ToDigest(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  Digest digest;
  static_assert(sizeof(canonical.digest) == kDigestBytes);
  std::memcpy(digest.data(), canonical.digest, kDigestBytes);
  return digest;
}

std::string Bytes(const PieceDigests& digests) {
  std::string bytes;
  for (const Digest& digest : digests.of) bytes.append(digest.begin(), digest.end());
  return bytes;
}

PieceDigests FromBytes(std::string_view bytes) {
  PENSTOCK_CHECK(bytes.size() == kPieceDigestBytes);
  PieceDigests digests;
  for (int i = 0; i < kStateClasses; ++i)
    std::memcpy(digests.of[i].data(), bytes.data() + i * kDigestBytes, kDigestBytes);
  return digests;
}

}  // namespace

std::string_view StateClassName(StateClass state_class) {
  constexpr std::array<std::string_view, kStateClasses> kNames = {"weights", "exp_avg", "exp_avg_sq"};
  return kNames[static_cast<size_t>(state_class)];
}

Digest DigestFloats(std::span<const float> elements) {
  return ToDigest(XXH3_128bits(elements.data(), elements.size_bytes()));
}

PieceDigests DigestPiece(std::span<const float> weights, std::span<const float> exp_avg,
                         std::span<const float> exp_avg_sq) {
  return PieceDigests{{DigestFloats(weights), DigestFloats(exp_avg), DigestFloats(exp_avg_sq)}};
}

std::vector<v1::PieceDigest> DigestPieces(ElementRange range, std::span<const float> weights,
                                          std::span<const float> exp_avg, std::span<const float> exp_avg_sq) {
  PENSTOCK_CHECK(range.begin % kPieceElements == 0);
  const auto size = static_cast<size_t>(range.size());
  PENSTOCK_CHECK(weights.size() == size && exp_avg.size() == size && exp_avg_sq.size() == size);
  std::vector<v1::PieceDigest> pieces;
  for (size_t at = 0; at < size; at += kPieceElements) {
    const size_t count = std::min<size_t>(kPieceElements, size - at);
    pieces.push_back(
        ToProto(static_cast<uint64_t>(range.begin / kPieceElements) + pieces.size(),
                DigestPiece(weights.subspan(at, count), exp_avg.subspan(at, count), exp_avg_sq.subspan(at, count))));
  }
  return pieces;
}

v1::PieceDigest ToProto(uint64_t piece, const PieceDigests& digests) {
  v1::PieceDigest proto;
  proto.set_piece(piece);
  proto.set_digests(Bytes(digests));
  return proto;
}

absl::StatusOr<std::vector<PieceDigests>> OrderPieces(std::span<const v1::PieceDigest> pieces, int64_t elements) {
  const auto count = static_cast<uint64_t>(PieceCount(elements));
  std::vector<PieceDigests> ordered(count);
  std::vector<bool> seen(count);
  for (const v1::PieceDigest& piece : pieces) {
    if (piece.piece() >= count) {
      return absl::InvalidArgumentError(
          absl::StrCat("a digest of piece ", piece.piece(), " was given; there are ", count, " pieces"));
    }
    if (piece.digests().size() != kPieceDigestBytes) {
      return absl::InvalidArgumentError(absl::StrCat("the digests of piece ", piece.piece(), " have ",
                                                     piece.digests().size(), " bytes; ", kPieceDigestBytes,
                                                     " are expected"));
    }
    const PieceDigests digests = FromBytes(piece.digests());
    if (seen[piece.piece()] && ordered[piece.piece()] != digests) {
      return absl::InvalidArgumentError(absl::StrCat("two different digests of piece ", piece.piece(), " were given"));
    }
    seen[piece.piece()] = true;
    ordered[piece.piece()] = digests;
  }
  const auto missing = std::find(seen.begin(), seen.end(), false);
  if (missing != seen.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the digest of piece ", missing - seen.begin(), " of ", count, " is missing"));
  }
  return ordered;
}

std::string CombineDigest(std::span<const PieceDigests> pieces, uint64_t step, uint64_t samples_consumed) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  PENSTOCK_CHECK(state != nullptr);
  XXH3_128bits_reset(state.get());
  for (const PieceDigests& piece : pieces) {
    for (const Digest& digest : piece.of) XXH3_128bits_update(state.get(), digest.data(), digest.size());
  }
  for (const uint64_t number : {step, samples_consumed}) {
    std::array<uint8_t, 8> bytes;
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(number >> (8 * i));
    XXH3_128bits_update(state.get(), bytes.data(), bytes.size());
  }
  const Digest digest = ToDigest(XXH3_128bits_digest(state.get()));
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

std::string ToHex(const PieceDigests& digests) { return absl::BytesToHexString(Bytes(digests)); }

absl::StatusOr<PieceDigests> PieceDigestsFromHex(std::string_view hex) {
  const bool is_hex =
      std::all_of(hex.begin(), hex.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (hex.size() != 2 * kPieceDigestBytes || !is_hex) {
    return absl::InvalidArgumentError(
        absl::StrCat("digests of a piece are ", 2 * kPieceDigestBytes, " hexadecimal digits in lower case"));
  }
  return FromBytes(absl::HexStringToBytes(absl::string_view(hex.data(), hex.size())));
}

}  // namespace penstock
