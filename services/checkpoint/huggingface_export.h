// Writing a model as a Hugging Face GPT-2 folder, and making a checkpoint of one. Tensor by tensor: never more than one
// is in memory.
//
// The folder has config.json, model.safetensors (parts and an index where it is large) in fp32, and for a model whose
// tokens are bytes a tokenizer that says so. Exported and imported again, the weights have the same bits.
//
// Thread-safe: free functions; the folders written are nobody else's.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_EXPORT_H_
#define PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_EXPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/checkpoint/manifest.h"
#include "services/checkpoint/pretrained.h"
#include "services/storage/blobs.h"

namespace penstock {

// As transformers cuts by default.
inline constexpr uint64_t kHuggingFaceFileBytesMax = 5'000'000'000;

// Writes `folder`, which isn't there or is empty (else ALREADY_EXISTS); it has its name only once it is whole. Returns
// the names of its files.
absl::StatusOr<std::vector<std::string>> ExportHuggingFace(Blobs& blobs, const PretrainedWeights& weights,
                                                           const std::string& folder,
                                                           uint64_t file_bytes_max = kHuggingFaceFileBytesMax);

struct ImportedCheckpoint {
  // DIRECTORY/step-00000000.
  std::string path;
  Manifest manifest;
};

// Makes the checkpoint of step 0 in `directory`, with an optimizer's state of zeros, of the Hugging Face folder.
// ALREADY_EXISTS when there is one.
absl::StatusOr<ImportedCheckpoint> ImportHuggingFace(Blobs& blobs, const std::string& folder,
                                                     const std::string& directory);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_EXPORT_H_
