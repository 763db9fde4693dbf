// Weights to start from, wherever they come from: a Hugging Face folder or one of Penstock's own checkpoints.
//
//   PENSTOCK_ASSIGN_OR_RETURN(auto pretrained, PretrainedWeights::Open(LocalDisk(), "gpt2"));
//   PENSTOCK_RETURN_IF_ERROR(pretrained->ReadRange(range, weights));
//
// Thread-safe: constant after Open. Doesn't own the Blobs.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_PRETRAINED_H_
#define PENSTOCK_SERVICES_CHECKPOINT_PRETRAINED_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/storage/blobs.h"

namespace penstock {

class PretrainedWeights {
 public:
  virtual ~PretrainedWeights() = default;

  // By what lies in the folder: manifest.json is a checkpoint's, config.json a Hugging Face model's. NOT_FOUND when it
  // holds neither; else the errors of CheckpointReader::Open and HuggingFaceReader::Open.
  static absl::StatusOr<std::unique_ptr<PretrainedWeights>> Open(Blobs& blobs, const std::string& folder);

  virtual const std::string& folder() const = 0;
  virtual const ParameterTable& table() const = 0;
  // Of a checkpoint the effective job; of a Hugging Face folder its model alone.
  virtual const v1::JobSpec& spec() const = 0;
  // Of a checkpoint; 0 of a Hugging Face folder.
  virtual uint64_t step() const = 0;
  // Canonical elements `range` of the weights into `out`, of the range's length; whole parameters where that can be.
  virtual absl::Status ReadRange(ElementRange range, std::span<float> out) const = 0;
};

// The model that the folder holds, from its small files alone. Errors as of Open.
absl::StatusOr<v1::ModelSpec> ReadPretrainedModel(Blobs& blobs, const std::string& folder);

// Whether the model's tokens are the bytes of its text: the job's format says so, or, where no job is known, a
// vocabulary of 256.
bool SpeaksBytes(const v1::JobSpec& spec);

// For a job whose model.from is `model->from()`: fills in what the job leaves out from the folder. What can't be read,
// and where the job contradicts it, comes back as violations.
std::vector<v1::JobViolation> FillModelFrom(Blobs& blobs, v1::ModelSpec* model);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_PRETRAINED_H_
