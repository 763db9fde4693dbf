// Reading the weights of a Hugging Face GPT-2 folder: config.json and model.safetensors, or its parts behind
// model.safetensors.index.json.
//
//   PENSTOCK_ASSIGN_OR_RETURN(auto reader, HuggingFaceReader::Open(LocalDisk(), "gpt2"));
//   PENSTOCK_RETURN_IF_ERROR(reader->ReadRange(range, weights));      // canonical elements, fp32
//
// Open checks every tensor's name, shape and dtype against the config, and a head that is written against the token
// embedding; what is missing, left over or contradicts is INVALID_ARGUMENT naming file and field. Tensors may be F32,
// F16 or BF16. Thread-safe: constant after Open. Doesn't own the Blobs.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_READER_H_
#define PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_READER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/checkpoint/huggingface_names.h"
#include "services/storage/blobs.h"
#include "services/storage/safetensors.h"

namespace penstock {

inline constexpr std::string_view kHuggingFaceWeightsName = "model.safetensors";
inline constexpr std::string_view kHuggingFaceIndexName = "model.safetensors.index.json";
inline constexpr uint64_t kHuggingFaceIndexBytesMax = uint64_t{64} << 20;
inline constexpr size_t kHuggingFaceFilesMax = 10'000;

// The model of the folder's config.json alone. NOT_FOUND when there is no such folder or file.
absl::StatusOr<v1::ModelSpec> ReadHuggingFaceModel(Blobs& blobs, const std::string& folder);

class HuggingFaceReader {
 public:
  static absl::StatusOr<std::unique_ptr<HuggingFaceReader>> Open(Blobs& blobs, const std::string& folder);

  const std::string& folder() const { return folder_; }
  const v1::ModelSpec& model() const { return model_; }
  const ParameterTable& table() const { return table_; }

  // Canonical elements `range` of the weights into `out`, of the range's length. A tensor whose axes lie differently is
  // read whole, so ask for whole parameters where that can be.
  absl::Status ReadRange(ElementRange range, std::span<float> out) const;

 private:
  // Where a parameter is: a tensor in one of the files.
  struct Source {
    size_t file = 0;
    // In the file.
    std::string name;
    HuggingFaceTensor tensor;
  };

  HuggingFaceReader(std::string folder, v1::ModelSpec model, ParameterTable table)
      : folder_(std::move(folder)), model_(std::move(model)), table_(std::move(table)) {}

  absl::Status OpenFiles(Blobs& blobs);
  absl::Status OpenIndexed(Blobs& blobs, const std::map<std::string, std::string>& weight_map);
  // Finds every parameter's tensor, and refuses tensors that are no parameter's.
  absl::Status MatchTensors();
  absl::Status CheckTensor(const SafetensorsFile& file, const SafetensorsEntry& entry,
                           const HuggingFaceTensor& tensor) const;
  absl::Status CheckHead(size_t file, const std::string& name) const;
  // Elements [first, first + out.size()) of a tensor as it lies in its file.
  absl::Status ReadFloats(size_t file, const std::string& name, uint64_t first, std::span<float> out) const;

  const std::string folder_;
  const v1::ModelSpec model_;
  const ParameterTable table_;
  // Filled by Open.
  std::vector<SafetensorsFile> files_;
  // One for each parameter of the table.
  std::vector<Source> sources_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_READER_H_
