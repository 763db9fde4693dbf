// The job file: YAML (JSON is YAML, too) read into v1::JobSpec field by field, by protobuf reflection, so that a new
// field of the schema needs no code here. Everything that is wrong is said at once, each with file and line:
//
//   job.yaml:3: model.head: there is no such field; did you mean `heads`?
//
// Thread-safe: free functions; JobFile is a value.
#ifndef PENSTOCK_SERVICES_JOBFILE_JOB_FILE_H_
#define PENSTOCK_SERVICES_JOBFILE_JOB_FILE_H_

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Any real job file is far below. (yaml_tree.h limits what is in it.)
inline constexpr size_t kJobFileBytesMax = 256 << 10;

// Where a field was written.
struct FieldPosition {
  // Of the job file, from 1; 0 for an override.
  int line = 0;
  // "model.heads" for --set model.heads=8; empty for a field of the file.
  std::string override_path;
};

struct JobFile {
  // With the defaults filled in.
  v1::JobSpec spec;
  // As it was named; "-" is standard input.
  std::string path;
  // Of each field that was written, by its path: "model.heads".
  std::map<std::string, FieldPosition> positions;

  // "job.yaml:3" or "--set model.heads": where the field is, or its nearest parent that was written, or just the file.
  std::string PositionOf(const std::string& field) const;
};

// Parses `text`, then applies `overrides` ("model.heads=8"), each later one over the earlier, then fills in the
// defaults. INVALID_ARGUMENT with one line "POSITION: FIELD: what is wrong; what would be right" for each error.
absl::StatusOr<JobFile> ParseJobFile(std::string_view text, const std::string& path,
                                     std::span<const std::string> overrides);
// Reads the file first ("-": standard input).
absl::StatusOr<JobFile> ReadJobFile(const std::string& path, std::span<const std::string> overrides);

// INVALID_ARGUMENT with one line for each violation, in the file's order where it has one; OK when there are none.
absl::Status ExplainViolations(const JobFile& file, std::span<const v1::JobViolation> violations);
// The rules of core/plan/job_rules.h over the file's job.
absl::Status CheckJobFile(const JobFile& file);

// Makes model.from, data.path, checkpoint.directory and checkpoint.resume_path absolute, from `folder` on: for a local cluster,
// where relative paths start at the job file's own folder.
void ResolvePaths(v1::JobSpec* spec, const std::string& folder);
// The folder of a job file, absolute; the working folder for "-".
absl::StatusOr<std::string> FolderOf(const std::string& path);

// The job as YAML, every field that is set, which reads back to the same job.
std::string FormatJob(const v1::JobSpec& spec);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_JOBFILE_JOB_FILE_H_
