// The parameter table of a model: one ordered list of blocks and parameters that everything else is derived from.
//
// The worker allocates from it, the stage partitioner costs by it, the parameter service shards by it and a checkpoint
// names its tensors by it. The elements of all parameters, one parameter after the other in table order and without
// padding, are the canonical space of a job: element 0 is the first weight of the first parameter. A parameter is
// stored with its split axis outermost (fused QKV as [heads, 3, head_dim, hidden]), so that a tensor shard of any
// degree is one range of it.
//
// Immutable after Create, so safe to read from any thread. Copyable (a copy copies the lists).
#ifndef PENSTOCK_CORE_MODEL_PARAMETER_TABLE_H_
#define PENSTOCK_CORE_MODEL_PARAMETER_TABLE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Window of the canonical space that norms and digests are taken over, in elements. Fixed for good: a job's digest and
// the boundaries of shards depend on it.
inline constexpr int64_t kPieceElements = 65536;

// Number of pieces that `elements` elements make; the last one may be short. Of any number: readers ask before they
// have checked it.
constexpr int64_t PieceCount(int64_t elements) {
  return elements / kPieceElements + (elements % kPieceElements > 0 ? 1 : 0);
}

// How tensor parallelism divides a parameter: by its outermost axis, or not at all.
enum class SplitAxis { kReplicated, kSplit };

enum class InitKind { kNormal, kZeros, kOnes };

struct Parameter {
  // "h.0.attn.qkv.weight"; unique in the table.
  std::string name;
  // Canonical shape, outermost axis first; row-major.
  std::vector<int64_t> shape;
  SplitAxis split = SplitAxis::kReplicated;
  // Index of the block that it belongs to.
  int block = 0;
  // Canonical elements [begin, end).
  int64_t begin = 0;
  int64_t end = 0;
  InitKind init = InitKind::kZeros;
  // Standard deviation of the initial values; 0 unless init is kNormal.
  float init_std = 0;
  // True where weight decay applies: weights of two and more axes.
  bool decay = false;
  // True for a parameter that the last stage uses as well (the token embedding as output head).
  bool tied = false;

  int64_t size() const { return end - begin; }
  ElementRange range() const { return {begin, end}; }
};

enum class BlockKind { kEmbedding, kLayer, kHead };

// What the stage partitioner cuts between. Costs are for one sample (one sequence), in fp32.
struct Block {
  // "embedding", "h.0", "head".
  std::string name;
  BlockKind kind = BlockKind::kLayer;
  // Indices [first_parameter, last_parameter) into parameters().
  int first_parameter = 0;
  int last_parameter = 0;
  // Canonical elements [begin, end) of its own parameters.
  int64_t begin = 0;
  int64_t end = 0;
  // True for the head, which also uses the tied parameter.
  bool uses_tied = false;
  // A multiply and an add count as two.
  double forward_flops_per_sample = 0;
  double backward_flops_per_sample = 0;
  // Elements that it hands to the next block, (T, C); 0 for the head.
  int64_t boundary_elements_per_sample = 0;
  // What is kept from a forward pass until its backward pass: as the worker lays it out, but for alignment.
  int64_t activation_bytes_per_sample = 0;
  // The part of it that tensor parallelism divides.
  int64_t split_activation_bytes_per_sample = 0;
  // The parts of both that have four bytes an element whatever the job computes in: statistics and tokens.
  int64_t wide_activation_bytes_per_sample = 0;
  int64_t split_wide_activation_bytes_per_sample = 0;
  // What a pass needs beside it, for a sample: inner gradients; the head's logits, of which only a part exists at once
  // (core/model/head_rows.h).
  int64_t scratch_bytes_per_sample = 0;

  ElementRange range() const { return {begin, end}; }
};

class ParameterTable {
 public:
  // The table of `model`, whose defaults are filled in (core/plan/job_rules.h). INVALID_ARGUMENT, naming the field, for
  // a family that is unknown or sizes outside the limits of core/model/model_limits.h.
  static absl::StatusOr<ParameterTable> Create(const v1::ModelSpec& model);

  std::span<const Parameter> parameters() const { return parameters_; }
  // Embedding, layers, head, in this order.
  std::span<const Block> blocks() const { return blocks_; }
  // Elements of the canonical space.
  int64_t size() const { return parameters_.empty() ? 0 : parameters_.back().end; }
  ElementRange range() const { return {0, size()}; }
  int64_t piece_count() const { return PieceCount(size()); }
  // Canonical elements of piece `piece`.
  ElementRange Piece(int64_t piece) const;

  // The parameter with this name, or nullptr. Owned by the table.
  const Parameter* Find(std::string_view name) const;
  // Index of the parameter that holds canonical element `element`, which is in [0, size()).
  int IndexOf(int64_t element) const;
  // The tied parameter, or nullptr where the model has none. It is the first one of block 0.
  const Parameter* tied() const;

 private:
  friend class TableBuilder;
  ParameterTable() = default;

  std::vector<Parameter> parameters_;
  std::vector<Block> blocks_;
};

}  // namespace penstock

#endif  // PENSTOCK_CORE_MODEL_PARAMETER_TABLE_H_
