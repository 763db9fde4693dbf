// A lock on a file, held for the life of the process or of this object, whichever ends first: so that two coordinators
// never work on one store. The file stays when the lock is let go.
#ifndef PENSTOCK_COORDINATOR_STORE_FILE_LOCK_H_
#define PENSTOCK_COORDINATOR_STORE_FILE_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace penstock {

class FileLock {
 public:
  // Makes the file when there is none. ALREADY_EXISTS, naming the holder's pid, when it is held; PERMISSION_DENIED or
  // NOT_FOUND when the file can't be made.
  static absl::StatusOr<std::unique_ptr<FileLock>> Take(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}

  const int descriptor_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_STORE_FILE_LOCK_H_
