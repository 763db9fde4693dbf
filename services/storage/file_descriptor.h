// A file descriptor that closes itself, and the system's errors as statuses.
//
// Not synchronised; a value that can be moved.
#ifndef PENSTOCK_SERVICES_STORAGE_FILE_DESCRIPTOR_H_
#define PENSTOCK_SERVICES_STORAGE_FILE_DESCRIPTOR_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

// "PATH: can't ACTION: No space left on device", under the code that Blobs documents.
absl::Status SystemError(int error_number, const std::string& action, const std::string& path);

class FileDescriptor {
 public:
  // open(2) with O_CLOEXEC added. `action` is for the error: "open it to read".
  static absl::StatusOr<FileDescriptor> Open(const std::string& path, int flags, const std::string& action);

  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  // Closes now, so that an error that the file system kept until then (NFS, quotas) is heard.
  absl::Status Close(const std::string& path);

 private:
  int fd_;
};

// All of `data`, or an error. Interrupted and short calls go on.
absl::Status WriteFully(const FileDescriptor& file, const std::string& path, uint64_t offset,
                        std::span<const std::byte> data);
// All of `out`; OUT_OF_RANGE when the file ends before.
absl::Status ReadFully(const FileDescriptor& file, const std::string& path, uint64_t offset, std::span<std::byte> out);
absl::Status SyncFully(const FileDescriptor& file, const std::string& path);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_STORAGE_FILE_DESCRIPTOR_H_
