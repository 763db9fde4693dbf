// The job that a command's FILE and --set flags describe, ready to be sent. What is wrong with it is printed as lines
// with the file's positions.
#ifndef PENSTOCK_SERVICES_CLIENT_JOB_SOURCE_H_
#define PENSTOCK_SERVICES_CLIENT_JOB_SOURCE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/client/commands.h"
#include "services/jobfile/job_file.h"

namespace penstock {

// Reads and checks the job; for a cluster on this machine, paths start at the job file's own folder.
absl::StatusOr<JobFile> ReadJob(const CommandContext& context);

// Prints several lines "file:line: ..." as they are, without the program's name before them. The exit code.
int FailWithLines(const absl::Status& status);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_JOB_SOURCE_H_
