// Which bytes of which file hold which elements of the canonical space. Follows from the parameter table alone, so the
// same job writes the same files on any mesh and any number of shards.
//
// Each class of state has its own files: whole tensors in table order, under their table names, fp32, packed; a file
// holds at most `file_bytes_max` bytes of data unless a single tensor is larger. So a file is one range of the
// canonical space behind a header.
//
// Thread-safe: constant after construction.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_LAYOUT_H_
#define PENSTOCK_SERVICES_CHECKPOINT_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/model/parameter_table.h"
#include "services/checkpoint/digest.h"

namespace penstock {

inline constexpr uint64_t kCheckpointFileBytesMax = uint64_t{2} << 30;

struct CheckpointFile {
  StateClass state_class = StateClass::kWeights;
  // "weights-00001-of-00003.safetensors".
  std::string name;
  // The safetensors header, 8 bytes of length included.
  std::string header;
  // Of the whole file.
  uint64_t bytes = 0;
  // The elements that it holds.
  ElementRange range;
};

// A part of a range: elements [range.begin, range.end) lie in files()[file] from byte `offset` on.
struct FileSlice {
  size_t file = 0;
  uint64_t offset = 0;
  ElementRange range;
};

class CheckpointLayout {
 public:
  static absl::StatusOr<CheckpointLayout> Create(const ParameterTable& table,
                                                 uint64_t file_bytes_max = kCheckpointFileBytesMax);

  // All weights files, then exp_avg, then exp_avg_sq, each in canonical order.
  const std::vector<CheckpointFile>& files() const { return files_; }
  int64_t elements() const { return elements_; }
  // Of all files together.
  uint64_t bytes() const { return bytes_; }
  // In canonical order, covering the range. OUT_OF_RANGE when the range is not within the table.
  absl::StatusOr<std::vector<FileSlice>> Slices(StateClass state_class, ElementRange range) const;
  // model.safetensors.index.json over the weights: {"metadata": {"total_size"}, "weight_map": {tensor: file}}.
  const std::string& index_json() const { return index_json_; }

 private:
  CheckpointLayout() = default;

  std::vector<CheckpointFile> files_;
  int64_t elements_ = 0;
  uint64_t bytes_ = 0;
  std::string index_json_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_LAYOUT_H_
