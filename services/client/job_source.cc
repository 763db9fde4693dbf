#include "services/client/job_source.h"

#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

bool IsLoopback(const std::string& address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
         absl::StartsWith(address, "[::1]");
}

}  // namespace

absl::StatusOr<JobFile> ReadJob(const CommandContext& context) {
  PENSTOCK_ASSIGN_OR_RETURN(JobFile file, ReadJobFile(context.line.arguments[0], context.line.Flags("set")));
  PENSTOCK_RETURN_IF_ERROR(CheckJobFile(file));
  if (IsLoopback(context.client.address())) {
    PENSTOCK_ASSIGN_OR_RETURN(const std::string folder, FolderOf(file.path));
    ResolvePaths(&file.spec, folder);
  }
  return file;
}

int FailWithLines(const absl::Status& status) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return kExitFailed;
}

}  // namespace penstock
