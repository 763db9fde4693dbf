#include "coordinator/store/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<FileLock>> FileLock::Take(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't open the lock file ", path));
  }
  std::unique_ptr<FileLock> lock(new FileLock(descriptor));
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    if (error != EWOULDBLOCK) return absl::ErrnoToStatus(error, absl::StrCat("can't lock ", path));
    char holder[32] = {};
    const ssize_t bytes = pread(descriptor, holder, sizeof(holder) - 1, 0);
    return absl::AlreadyExistsError(absl::StrCat(path, " is held by another coordinator (pid ",
                                                 bytes > 0 ? holder : "unknown",
                                                 "); a store belongs to one coordinator at a time"));
  }
  // For whoever finds the file held.
  const std::string pid = absl::StrCat(getpid());
  if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, pid.data(), pid.size(), 0) < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't write the lock file ", path));
  }
  return lock;
}

// Closing lets go of the lock.
FileLock::~FileLock() { close(descriptor_); }

}  // namespace penstock
