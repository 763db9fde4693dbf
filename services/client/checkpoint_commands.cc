#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/checkpoint/catalog.h"
#include "services/checkpoint/reader.h"
#include "services/client/commands.h"
#include "services/client/output.h"
#include "services/storage/blobs.h"

namespace penstock {
namespace {

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

std::string Megabytes(uint64_t bytes) { return absl::StrCat(FormatNumber(bytes / 1e6, 1), " MB"); }

// The folder with the checkpoints that the user means: a folder, or a job's.
absl::StatusOr<std::string> CheckpointFolder(const CommandContext& context) {
  const std::string& name = context.line.arguments[0];
  if (IsFolder(name)) return name;
  PENSTOCK_ASSIGN_OR_RETURN(const v1::JobStatus job, context.client.GetJob(name));
  if (job.spec().checkpoint().directory().empty()) {
    return absl::NotFoundError(
        absl::StrCat("job ", job.name(), " has no checkpoint.directory, so it has no checkpoints"));
  }
  return JobCheckpointFolder(job.spec().checkpoint().directory(), job.name());
}

}  // namespace

absl::StatusOr<std::string> CheckpointIn(const std::string& folder) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> checkpoints, ListCheckpoints(LocalDisk(), folder));
  if (checkpoints.empty()) return folder;
  PENSTOCK_ASSIGN_OR_RETURN(const CheckpointInfo newest, FindNewestCheckpoint(LocalDisk(), folder));
  return newest.path;
}

absl::StatusOr<std::string> CheckpointPath(const CommandContext& context, const std::string& name) {
  if (IsFolder(name)) return CheckpointIn(name);
  if (name.find('/') != std::string::npos) return absl::NotFoundError(absl::StrCat("there is no folder ", name));
  PENSTOCK_ASSIGN_OR_RETURN(const v1::JobStatus job, context.client.GetJob(name));
  if (job.last_checkpoint().empty()) {
    return absl::NotFoundError(absl::StrCat("job ", job.name(), " has no complete checkpoint yet"));
  }
  return job.last_checkpoint();
}

int CheckpointList(const CommandContext& context) {
  auto folder = CheckpointFolder(context);
  if (!folder.ok()) return Fail(folder.status());
  auto checkpoints = ListCheckpoints(LocalDisk(), *folder);
  if (!checkpoints.ok()) return Fail(checkpoints.status());
  if (context.json) {
    Json array = Json::array();
    for (const CheckpointInfo& info : *checkpoints) {
      array.push_back({{"path", info.path},
                       {"step", info.step},
                       {"complete", info.status.ok()},
                       {"bytes", info.bytes},
                       {"job", info.job_name},
                       {"samples_consumed", info.samples_consumed},
                       {"digest", info.digest},
                       {"message", std::string(info.status.message())}});
    }
    std::printf("%s\n", array.dump(2).c_str());
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows;
  for (const CheckpointInfo& info : *checkpoints) {
    rows.push_back({absl::StrCat(info.step), info.status.ok() ? Megabytes(info.bytes) : "-", info.digest, info.path,
                    std::string(info.status.message())});
  }
  std::fputs(FormatTable({"STEP", "SIZE", "DIGEST", "PATH", "TROUBLE"}, rows).c_str(), stdout);
  return kExitDone;
}

int CheckpointVerify(const CommandContext& context) {
  auto path = CheckpointPath(context, context.line.arguments[0]);
  if (!path.ok()) return Fail(path.status());
  const bool terminal = isatty(STDERR_FILENO) == 1;
  auto manifest = VerifyCheckpoint(LocalDisk(), *path, [&](uint64_t done, uint64_t total) {
    if (terminal) std::fprintf(stderr, "\r\033[Kverifying %s of %s", Megabytes(done).c_str(), Megabytes(total).c_str());
    return true;
  });
  if (terminal) std::fprintf(stderr, "\r\033[K");
  if (!manifest.ok()) return Fail(manifest.status());
  if (context.json) {
    const Json json = {{"path", *path},
                       {"step", manifest->step},
                       {"samples_consumed", manifest->samples_consumed},
                       {"digest", manifest->digest},
                       {"verified", true}};
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s is good: step %llu, %zu pieces, digest %s\n", path->c_str(),
                static_cast<unsigned long long>(manifest->step), manifest->pieces.size(), manifest->digest.c_str());
  }
  return kExitDone;
}

}  // namespace penstock
