// Which part of the canonical space each shard of the parameter service owns: a run of whole pieces.
//
// Depends on the table's size and the number of shards alone, never on the mesh. A value; safe to read from any thread.
#ifndef PENSTOCK_CORE_LAYOUT_SHARD_RANGES_H_
#define PENSTOCK_CORE_LAYOUT_SHARD_RANGES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"

namespace penstock {

// The part of a range that one shard owns.
struct ShardPart {
  int shard = 0;
  ElementRange range;

  friend bool operator==(const ShardPart&, const ShardPart&) = default;
};

class ShardRanges {
 public:
  // Shard s of `shards` gets pieces [P*s/shards, P*(s+1)/shards) of the P pieces of `elements`. With more shards than
  // pieces some own nothing. INVALID_ARGUMENT unless elements > 0 and shards > 0.
  static absl::StatusOr<ShardRanges> Create(int64_t elements, int shards);

  int shards() const { return shards_; }
  int64_t elements() const { return elements_; }
  // Elements of shard `shard` in [0, shards()); {0, 0} for a shard that owns nothing.
  ElementRange Range(int shard) const;
  // Indices [begin, end) of the pieces of the shard.
  ElementRange Pieces(int shard) const;
  // The shard of an element in [0, elements()).
  int ShardOf(int64_t element) const;
  // `range`, which lies in [0, elements()), cut by owner, in order; no empty parts.
  std::vector<ShardPart> Cut(const ElementRange& range) const;

 private:
  ShardRanges(int64_t elements, int shards) : elements_(elements), shards_(shards) {}

  int64_t elements_;
  int shards_;
};

}  // namespace penstock

#endif  // PENSTOCK_CORE_LAYOUT_SHARD_RANGES_H_
