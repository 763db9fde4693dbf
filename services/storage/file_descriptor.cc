#include "services/storage/file_descriptor.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

// Linux moves at most this much in a call; larger counts come back short anyway.
constexpr size_t kBytesPerCallMax = size_t{1} << 30;

absl::StatusCode CodeOf(int error_number) {
  switch (error_number) {
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::StatusCode::kResourceExhausted;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case EISDIR:
    case ENOTDIR:
    case ENOTEMPTY:
    case EXDEV:
      return absl::StatusCode::kFailedPrecondition;
    case ENAMETOOLONG:
    case EINVAL:
    case ELOOP:
      return absl::StatusCode::kInvalidArgument;
    case EIO:
      return absl::StatusCode::kDataLoss;
    default:
      return absl::StatusCode::kUnknown;
  }
}

// pread and pwrite take signed offsets.
bool OffsetFits(uint64_t offset, size_t bytes) {
  constexpr uint64_t kMax = std::numeric_limits<off_t>::max();
  return offset <= kMax && bytes <= kMax - offset;
}

}  // namespace

absl::Status SystemError(int error_number, const std::string& action, const std::string& path) {
  return absl::Status(CodeOf(error_number),
                      absl::StrCat(path, ": can't ", action, ": ", std::generic_category().message(error_number)));
}

absl::StatusOr<FileDescriptor> FileDescriptor::Open(const std::string& path, int flags, const std::string& action) {
  // A null byte would cut the name short: another file than the one that was meant.
  if (path.empty() || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", path, "\": isn't a path"));
  }
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return SystemError(errno, action, path);
  return FileDescriptor(fd);
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status FileDescriptor::Close(const std::string& path) {
  const int fd = std::exchange(fd_, -1);
  // After EINTR Linux has closed the descriptor all the same; closing it again could hit somebody else's.
  if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) return SystemError(errno, "close it", path);
  return absl::OkStatus();
}

absl::Status WriteFully(const FileDescriptor& file, const std::string& path, uint64_t offset,
                        std::span<const std::byte> data) {
  if (!OffsetFits(offset, data.size())) {
    return absl::OutOfRangeError(
        absl::StrCat(path, ": can't write ", data.size(), " bytes at offset ", offset, ": no file is that large"));
  }
  size_t done = 0;
  while (done < data.size()) {
    const size_t wanted = std::min(data.size() - done, kBytesPerCallMax);
    const ssize_t written = ::pwrite(file.get(), data.data() + done, wanted, static_cast<off_t>(offset + done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      return SystemError(written == 0 ? EIO : errno,
                         absl::StrCat("write ", data.size(), " bytes at offset ", offset, " (", done, " written)"),
                         path);
    }
    done += static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status ReadFully(const FileDescriptor& file, const std::string& path, uint64_t offset, std::span<std::byte> out) {
  if (!OffsetFits(offset, out.size())) {
    return absl::OutOfRangeError(
        absl::StrCat(path, ": can't read ", out.size(), " bytes at offset ", offset, ": no file is that large"));
  }
  size_t done = 0;
  while (done < out.size()) {
    const size_t wanted = std::min(out.size() - done, kBytesPerCallMax);
    const ssize_t got = ::pread(file.get(), out.data() + done, wanted, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(errno, absl::StrCat("read ", out.size(), " bytes at offset ", offset), path);
    if (got == 0) {
      return absl::OutOfRangeError(
          absl::StrCat(path, ": ends at byte ", offset + done, "; wanted ", out.size(), " bytes from offset ", offset));
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status SyncFully(const FileDescriptor& file, const std::string& path) {
  int result;
  do {
    result = ::fsync(file.get());
  } while (result != 0 && errno == EINTR);
  if (result != 0) return SystemError(errno, "bring it to the disk", path);
  return absl::OkStatus();
}

}  // namespace penstock
