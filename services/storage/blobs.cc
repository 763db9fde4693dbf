#include "services/storage/blobs.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {

absl::StatusOr<std::string> ReadWholeBlob(Blobs& blobs, const std::string& path, uint64_t bytes_max) {
  PENSTOCK_ASSIGN_OR_RETURN(const uint64_t bytes, blobs.Size(path));
  if (bytes > bytes_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": has ", bytes, " bytes; of such a file at most ", bytes_max, " are read"));
  }
  std::string text(bytes, '\0');
  PENSTOCK_RETURN_IF_ERROR(blobs.ReadAt(path, 0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::string JoinPath(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (!path.empty() && path.back() != '/') path.push_back('/');
  path.append(name);
  return path;
}

}  // namespace penstock
