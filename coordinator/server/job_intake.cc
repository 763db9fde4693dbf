#include "coordinator/server/job_intake.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/plan/job_rules.h"
#include "services/checkpoint/catalog.h"
#include "services/checkpoint/manifest.h"
#include "services/checkpoint/pretrained.h"
#include "services/data/inspect.h"

namespace penstock {
namespace {

v1::JobViolation Violation(const std::string& field, const std::string& message) {
  v1::JobViolation violation;
  violation.set_field(field);
  violation.set_message(message);
  return violation;
}

}  // namespace

std::string JobIntake::Absolute(const std::string& path) const {
  if (path.empty()) return path;
  return (std::filesystem::path(root_) / path).lexically_normal().string();
}

std::vector<v1::JobViolation> JobIntake::Prepare(v1::JobSpec* spec, std::vector<std::string>* notes) const {
  FillDefaults(spec);
  std::vector<v1::JobViolation> violations = CheckJob(*spec);
  if (violations.empty() && !spec->model().from().empty()) {
    spec->mutable_model()->set_from(Absolute(spec->model().from()));
    violations = FillModelFrom(*blobs_, spec->mutable_model());
    // Now that the sizes are known.
    if (violations.empty()) violations = CheckJob(*spec);
  }
  if (!violations.empty()) return violations;
  spec->mutable_data()->set_path(Absolute(spec->data().path()));
  spec->mutable_checkpoint()->set_directory(Absolute(spec->checkpoint().directory()));
  spec->mutable_checkpoint()->set_resume_path(Absolute(spec->checkpoint().resume_path()));
  CorpusInspection inspection = InspectCorpus(*spec);
  violations = std::move(inspection.violations);
  if (notes != nullptr) *notes = std::move(inspection.notes);
  for (v1::JobViolation& violation : CheckCheckpoint(*spec)) violations.push_back(std::move(violation));
  return violations;
}

std::vector<v1::JobViolation> JobIntake::CheckCheckpoint(const v1::JobSpec& spec) const {
  const v1::CheckpointSpec& checkpoint = spec.checkpoint();
  const bool by_path = checkpoint.resume() == v1::CheckpointSpec::RESUME_PATH;
  std::string path;
  if (by_path) {
    path = checkpoint.resume_path();
  } else if (checkpoint.resume() == v1::CheckpointSpec::RESUME_AUTO && !checkpoint.directory().empty()) {
    const auto newest = FindNewestCheckpoint(*blobs_, JobCheckpointFolder(checkpoint.directory(), spec.name()));
    if (!newest.ok()) return {};
    path = newest->path;
  } else {
    return {};
  }
  const absl::StatusOr<std::string> text = ReadWholeBlob(*blobs_, JoinPath(path, kManifestName), kManifestBytesMax);
  if (by_path && absl::IsNotFound(text.status())) {
    return {
        Violation("checkpoint.resume",
                  absl::StrCat("there is no complete checkpoint at ", path,
                               "; give the folder of one (step-NNNNNNNN, with its manifest.json), auto, or never"))};
  }
  if (!text.ok()) return {};
  const absl::StatusOr<Manifest> manifest = ParseManifest(*text);
  if (!manifest.ok()) return {};
  std::vector<v1::JobViolation> violations = CheckResume(*manifest, spec);
  for (v1::JobViolation& violation : violations) {
    violation.set_message(absl::StrCat(violation.message(), " (going on from ", path, ", as checkpoint.resume asks)"));
  }
  if (violations.empty() && manifest->step >= spec.training().steps()) {
    violations.push_back(Violation(
        "training.steps", absl::StrCat("the checkpoint ", path, " is at step ", manifest->step,
                                       " already, so nothing is left to train; ask for more than ", manifest->step,
                                       " steps, or begin anew with checkpoint.resume: never")));
  }
  return violations;
}

}  // namespace penstock
