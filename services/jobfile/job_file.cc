#include "services/jobfile/job_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/plan/job_rules.h"
#include "services/jobfile/field_reader.h"
#include "services/jobfile/yaml_tree.h"
#include "services/storage/file_descriptor.h"

namespace penstock {
namespace {

// More would scroll the first ones away.
constexpr size_t kErrorsShownMax = 50;

std::string PositionText(const std::string& path, const FieldPosition& position) {
  const std::string name = path == "-" ? "standard input" : path;
  if (!position.override_path.empty()) return absl::StrCat("--set ", position.override_path);
  return position.line > 0 ? absl::StrCat(name, ":", position.line) : name;
}

FieldPosition NearestPosition(const JobFile& file, std::string field) {
  while (true) {
    const auto it = file.positions.find(field);
    if (it != file.positions.end()) return it->second;
    const size_t dot = field.rfind('.');
    if (dot == std::string::npos) return {};
    field.resize(dot);
  }
}

absl::Status Join(const std::string& path, const std::vector<FieldError>& errors) {
  if (errors.empty()) return absl::OkStatus();
  std::vector<std::string> lines;
  for (const FieldError& error : errors) {
    if (lines.size() == kErrorsShownMax) {
      lines.push_back(absl::StrCat("... and ", errors.size() - kErrorsShownMax, " more"));
      break;
    }
    lines.push_back(absl::StrCat(PositionText(path, error.position), ": ", error.field, error.field.empty() ? "" : ": ",
                                 error.message));
  }
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

// Regular files, pipes and terminals alike; one byte more than allowed, to tell that there is more.
absl::StatusOr<std::string> ReadText(const FileDescriptor& file, const std::string& path) {
  std::string text(kJobFileBytesMax + 1, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(errno, "read the job", path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

}  // namespace

std::string JobFile::PositionOf(const std::string& field) const {
  return PositionText(path, NearestPosition(*this, field));
}

absl::StatusOr<JobFile> ParseJobFile(std::string_view text, const std::string& path,
                                     std::span<const std::string> overrides) {
  JobFile file;
  file.path = path;
  if (text.size() > kJobFileBytesMax) {
    return Join(path, {{{}, "", absl::StrCat("has more than ", kJobFileBytesMax, " bytes; isn't a job file")}});
  }
  const YamlDocument document = ParseYaml(text);
  if (document.root == nullptr) return Join(path, {{{document.error.line, ""}, "", document.error.message}});
  FieldReader reader(&file);
  reader.ReadJob(document.root);
  for (const std::string& each : overrides) reader.ReadOverride(each);
  PENSTOCK_RETURN_IF_ERROR(Join(path, reader.errors()));
  FillDefaults(&file.spec);
  return file;
}

absl::StatusOr<JobFile> ReadJobFile(const std::string& path, std::span<const std::string> overrides) {
  if (path == "-") {
    const int fd = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return SystemError(errno, "read the job", "standard input");
    PENSTOCK_ASSIGN_OR_RETURN(const std::string text, ReadText(FileDescriptor(fd), "standard input"));
    return ParseJobFile(text, path, overrides);
  }
  PENSTOCK_ASSIGN_OR_RETURN(const FileDescriptor file, FileDescriptor::Open(path, O_RDONLY, "open the job file"));
  PENSTOCK_ASSIGN_OR_RETURN(const std::string text, ReadText(file, path));
  return ParseJobFile(text, path, overrides);
}

absl::Status ExplainViolations(const JobFile& file, std::span<const v1::JobViolation> violations) {
  std::vector<FieldError> errors;
  for (const v1::JobViolation& violation : violations) {
    errors.push_back({NearestPosition(file, violation.field()), violation.field(), violation.message()});
  }
  // In the file's order; overrides and what was written nowhere come last.
  std::stable_sort(errors.begin(), errors.end(), [](const FieldError& a, const FieldError& b) {
    return a.position.line != 0 && (b.position.line == 0 || a.position.line < b.position.line);
  });
  return Join(file.path, errors);
}

absl::Status CheckJobFile(const JobFile& file) { return ExplainViolations(file, CheckJob(file.spec)); }

void ResolvePaths(v1::JobSpec* spec, const std::string& folder) {
  const auto resolve = [&folder](const std::string& path) {
    // An empty path means that there is none. operator/ leaves absolute ones as they are.
    return path.empty() ? path : (std::filesystem::path(folder) / path).lexically_normal().string();
  };
  if (spec->has_model()) spec->mutable_model()->set_from(resolve(spec->model().from()));
  if (spec->has_data()) spec->mutable_data()->set_path(resolve(spec->data().path()));
  if (spec->has_checkpoint()) {
    spec->mutable_checkpoint()->set_directory(resolve(spec->checkpoint().directory()));
    spec->mutable_checkpoint()->set_resume_path(resolve(spec->checkpoint().resume_path()));
  }
}

absl::StatusOr<std::string> FolderOf(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute =
      path == "-" ? std::filesystem::current_path(error) : std::filesystem::absolute(path, error).parent_path();
  if (error) return SystemError(error.value(), "tell its folder", path);
  return absolute.lexically_normal().string();
}

}  // namespace penstock
