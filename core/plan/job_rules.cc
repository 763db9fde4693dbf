#include "core/plan/job_rules.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/model/model_rules.h"
#include "core/plan/job_checker.h"
#include "core/plan/job_limits.h"

namespace penstock {
namespace {

void CheckName(const std::string& name, Violations* violations) {
  if (IsValidJobName(name)) return;
  const std::string rule = absl::StrCat("must be 1 to ", kJobNameBytesMax,
                                        " letters, digits, '-', '_' or '.', and begin with a letter or digit");
  violations->Add("name", name.empty() ? absl::StrCat("is missing; it ", rule)
                                       : absl::StrCat("is '", name.substr(0, 2 * kJobNameBytesMax), "'; it ", rule));
}

void CheckPath(absl::string_view field, const std::string& path, Violations* violations) {
  const std::string_view name(field.data(), field.size());
  if (path.size() >= kPathBytesMax) {
    violations->Add(name, absl::StrCat("has ", path.size(), " bytes; a path has fewer than ", kPathBytesMax));
  } else if (path.find('\0') != std::string::npos) {
    violations->Add(name, "holds a NUL character; no path does");
  }
}

}  // namespace

v1::JobSpec WithSimplestPlan(v1::JobSpec spec) {
  spec.mutable_parallel()->clear_plan();
  if (spec.training().micro_batch_size() == 0) spec.mutable_training()->set_micro_batch_size(1);
  FillDefaults(&spec);
  return spec;
}

bool IsValidJobName(absl::string_view name) {
  if (name.empty() || name.size() > kJobNameBytesMax || !absl::ascii_isalnum(static_cast<unsigned char>(name[0]))) {
    return false;
  }
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') return false;
  }
  return true;
}

void CheckData(const v1::DataSpec& data, Violations* violations) {
  if (data.path().empty()) violations->Add("data.path", "is missing; give the path of the corpus");
  CheckPath("data.path", data.path(), violations);
  if (data.format() != v1::DataSpec::FORMAT_BYTES) {
    violations->Add("data.format", absl::StrCat("has the unknown value ", static_cast<int>(data.format()),
                                                "; this version knows: bytes"));
  }
  violations->CheckNumber("data.validation_ratio", data.validation_ratio(), {.low = 0, .high = 1, .high_open = true});
}

void CheckCheckpoint(const v1::CheckpointSpec& checkpoint, Violations* violations) {
  CheckPath("checkpoint.directory", checkpoint.directory(), violations);
  CheckPath("checkpoint.resume_path", checkpoint.resume_path(), violations);
  violations->CheckInteger("checkpoint.keep", checkpoint.keep(), 0, kCheckpointsKeptMax);
  if (checkpoint.every_steps() > 0 && checkpoint.directory().empty()) {
    violations->Add(
        "checkpoint.every_steps",
        absl::StrCat("is ", checkpoint.every_steps(), ", but there is no checkpoint.directory to write to; give one"));
  }
  switch (checkpoint.resume()) {
    case v1::CheckpointSpec::RESUME_AUTO:
    case v1::CheckpointSpec::RESUME_NEVER:
      if (!checkpoint.resume_path().empty()) {
        violations->Add("checkpoint.resume_path",
                        "is given, but resume asks for something else; leave one of them out");
      }
      return;
    case v1::CheckpointSpec::RESUME_PATH:
      if (checkpoint.resume_path().empty()) {
        violations->Add("checkpoint.resume", "names no path; use auto, never or the path of a checkpoint");
      }
      return;
    default:
      violations->Add("checkpoint.resume", absl::StrCat("has the unknown value ", static_cast<int>(checkpoint.resume()),
                                                        "; use auto, never or the path of a checkpoint"));
  }
}

std::vector<v1::JobViolation> CheckJob(const v1::JobSpec& spec) {
  if (spec.parallel().plan() == v1::ParallelSpec::PLAN_AUTO) return CheckJob(WithSimplestPlan(spec));
  Violations violations;
  CheckName(spec.name(), &violations);
  CheckPath("model.from", spec.model().from(), &violations);
  // The coordinator reads the folder, and asks again.
  if (!AwaitsFolder(spec.model())) CheckModel(spec.model(), &violations);
  CheckData(spec.data(), &violations);
  CheckTraining(spec.training(), &violations);
  CheckOptimizer(spec.optimizer(), &violations);
  CheckParallel(spec.parallel(), &violations);
  CheckCheckpoint(spec.checkpoint(), &violations);
  CheckCombinations(spec, &violations);
  return std::move(violations).Take();
}

}  // namespace penstock
