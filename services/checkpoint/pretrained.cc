#include "services/checkpoint/pretrained.h"

#include <google/protobuf/descriptor.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/checkpoint/huggingface_config.h"
#include "services/checkpoint/huggingface_reader.h"
#include "services/checkpoint/reader.h"
#include "services/jobfile/value_text.h"

namespace penstock {
namespace {

class FromCheckpoint final : public PretrainedWeights {
 public:
  explicit FromCheckpoint(std::unique_ptr<CheckpointReader> reader) : reader_(std::move(reader)) {}

  const std::string& folder() const override { return reader_->path(); }
  const ParameterTable& table() const override { return reader_->table(); }
  const v1::JobSpec& spec() const override { return reader_->manifest().spec; }
  uint64_t step() const override { return reader_->manifest().step; }
  absl::Status ReadRange(ElementRange range, std::span<float> out) const override {
    return reader_->ReadRange(StateClass::kWeights, range, out);
  }

 private:
  const std::unique_ptr<CheckpointReader> reader_;
};

class FromHuggingFace final : public PretrainedWeights {
 public:
  explicit FromHuggingFace(std::unique_ptr<HuggingFaceReader> reader) : reader_(std::move(reader)) {
    *spec_.mutable_model() = reader_->model();
  }

  const std::string& folder() const override { return reader_->folder(); }
  const ParameterTable& table() const override { return reader_->table(); }
  const v1::JobSpec& spec() const override { return spec_; }
  uint64_t step() const override { return 0; }
  absl::Status ReadRange(ElementRange range, std::span<float> out) const override {
    return reader_->ReadRange(range, out);
  }

 private:
  const std::unique_ptr<HuggingFaceReader> reader_;
  v1::JobSpec spec_;
};

absl::StatusOr<bool> IsCheckpoint(Blobs& blobs, const std::string& folder) {
  const absl::Status manifest = blobs.Size(JoinPath(folder, kManifestName)).status();
  if (manifest.ok()) return true;
  if (!absl::IsNotFound(manifest)) return manifest;
  if (blobs.Size(JoinPath(folder, kHuggingFaceConfigName)).ok()) return false;
  PENSTOCK_RETURN_IF_ERROR(blobs.List(folder).status());
  return absl::NotFoundError(absl::StrCat(folder, ": has neither ", std::string(kManifestName), " (a checkpoint) nor ",
                                          std::string(kHuggingFaceConfigName), " (a Hugging Face model)"));
}

// Whether the job says nothing about the field, so that the folder's value is taken.
bool IsLeftOut(const v1::ModelSpec& model, const google::protobuf::FieldDescriptor& field) {
  return !model.GetReflection()->HasField(model, &field);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PretrainedWeights>> PretrainedWeights::Open(Blobs& blobs, const std::string& folder) {
  PENSTOCK_ASSIGN_OR_RETURN(const bool is_checkpoint, IsCheckpoint(blobs, folder));
  if (is_checkpoint) {
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointReader> reader, CheckpointReader::Open(blobs, folder));
    return std::make_unique<FromCheckpoint>(std::move(reader));
  }
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<HuggingFaceReader> reader, HuggingFaceReader::Open(blobs, folder));
  return std::make_unique<FromHuggingFace>(std::move(reader));
}

absl::StatusOr<v1::ModelSpec> ReadPretrainedModel(Blobs& blobs, const std::string& folder) {
  PENSTOCK_ASSIGN_OR_RETURN(const bool is_checkpoint, IsCheckpoint(blobs, folder));
  if (!is_checkpoint) return ReadHuggingFaceModel(blobs, folder);
  PENSTOCK_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(blobs, folder));
  return manifest.spec.model();
}

bool SpeaksBytes(const v1::JobSpec& spec) {
  if (spec.data().format() == v1::DataSpec::FORMAT_UNSPECIFIED) return spec.model().vocab_size() == 256;
  return spec.data().format() == v1::DataSpec::FORMAT_BYTES;
}

std::vector<v1::JobViolation> FillModelFrom(Blobs& blobs, v1::ModelSpec* model) {
  std::vector<v1::JobViolation> violations;
  const auto add = [&violations](const std::string& field, const std::string& message) {
    v1::JobViolation& violation = violations.emplace_back();
    violation.set_field(field);
    violation.set_message(message);
  };
  const absl::StatusOr<v1::ModelSpec> from = ReadPretrainedModel(blobs, model->from());
  if (!from.ok()) {
    add("model.from", std::string(from.status().message()));
    return violations;
  }
  v1::ModelSpec filled = *from;
  // The spread of initial weights that aren't drawn is the job's own affair, and so is where it starts from.
  filled.clear_init_std();
  filled.clear_from();
  const google::protobuf::Descriptor& descriptor = *v1::ModelSpec::descriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *descriptor.field(i);
    if (IsLeftOut(*model, field) || IsLeftOut(filled, field)) continue;
    const std::string is = ScalarText(*model, field);
    const std::string there = ScalarText(filled, field);
    if (is == there) continue;
    add(absl::StrCat("model.", field.name()), absl::StrCat("is ", is, ", but the model in ", model->from(), " has ",
                                                           there, "; use ", there, ", or leave it out"));
  }
  filled.MergeFrom(*model);
  if (violations.empty()) *model = std::move(filled);
  return violations;
}

}  // namespace penstock
