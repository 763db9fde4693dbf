// Digests of a job's state: what identifies it bit for bit, however it is sharded.
//
// A piece (65,536 elements of the canonical space; the last one may be shorter) has three digests: XXH3-128 over the
// little-endian fp32 bytes of its weights, of its first moments and of its second moments, each in xxHash's canonical
// (big-endian) form. The job's digest is the XXH3-128 over all pieces' 48 bytes in canonical order, then step and
// samples consumed as u64 little-endian.
//
// Thread-safe: free functions without state.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_DIGEST_H_
#define PENSTOCK_SERVICES_CHECKPOINT_DIGEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "protos/penstock/v1/parameter.pb.h"

namespace penstock {

// The three kinds of state that the service holds for each element, in the order of a piece's digests.
enum class StateClass { kWeights = 0, kExpAvg = 1, kExpAvgSq = 2 };
inline constexpr int kStateClasses = 3;
inline constexpr std::array<StateClass, kStateClasses> kAllStateClasses = {StateClass::kWeights, StateClass::kExpAvg,
                                                                           StateClass::kExpAvgSq};
// "weights", "exp_avg", "exp_avg_sq".
std::string_view StateClassName(StateClass state_class);

inline constexpr size_t kDigestBytes = 16;
using Digest = std::array<uint8_t, kDigestBytes>;

// The three digests of one piece.
struct PieceDigests {
  std::array<Digest, kStateClasses> of;

  const Digest& operator[](StateClass state_class) const { return of[static_cast<size_t>(state_class)]; }
  friend bool operator==(const PieceDigests&, const PieceDigests&) = default;
};

// XXH3-128 of the floats' bytes.
Digest DigestFloats(std::span<const float> elements);
// Of one whole piece; the spans have its length.
PieceDigests DigestPiece(std::span<const float> weights, std::span<const float> exp_avg,
                         std::span<const float> exp_avg_sq);
// Of a shard's run of pieces: `range` starts at a multiple of kPieceElements and ends at one or at the table's end; the
// spans hold exactly the range.
std::vector<v1::PieceDigest> DigestPieces(ElementRange range, std::span<const float> weights,
                                          std::span<const float> exp_avg, std::span<const float> exp_avg_sq);

v1::PieceDigest ToProto(uint64_t piece, const PieceDigests& digests);

// What all shards answered, put in canonical order. INVALID_ARGUMENT naming the piece when one is missing, comes twice
// with different digests, lies outside the space of `elements` elements, or is malformed.
absl::StatusOr<std::vector<PieceDigests>> OrderPieces(std::span<const v1::PieceDigest> pieces, int64_t elements);

// The job's digest: 32 hexadecimal digits.
std::string CombineDigest(std::span<const PieceDigests> pieces, uint64_t step, uint64_t samples_consumed);

// 96 hexadecimal digits, and back.
std::string ToHex(const PieceDigests& digests);
absl::StatusOr<PieceDigests> PieceDigestsFromHex(std::string_view hex);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_DIGEST_H_
