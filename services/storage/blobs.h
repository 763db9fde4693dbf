// Files by path, behind one interface: the local disk, and a fake in memory for tests (fake_blobs.h).
//
// Thread-safe: calls may come from any thread. Two writes to one range at the same time leave either one's bytes.
// Every error names the path. NOT_FOUND: no such file or folder. RESOURCE_EXHAUSTED: the disk or the quota is full
// (with the number of bytes that were wanted). PERMISSION_DENIED: not allowed, or a read-only file system.
// ALREADY_EXISTS, FAILED_PRECONDITION: a folder where a file is expected, or the other way round. OUT_OF_RANGE: a read
// past the file's end. DATA_LOSS: the disk failed to read, or to keep what was written.
#ifndef PENSTOCK_SERVICES_STORAGE_BLOBS_H_
#define PENSTOCK_SERVICES_STORAGE_BLOBS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

// One entry of a folder.
struct BlobEntry {
  std::string name;
  bool is_folder = false;
};

class Blobs {
 public:
  virtual ~Blobs() = default;

  // Makes the folder and those above it; fine when they are there.
  virtual absl::Status CreateFolders(const std::string& path) = 0;
  // Makes a file of `bytes` zero bytes and reserves its space where the file system can, so that a full disk shows now
  // and not in the middle. A file that is there is emptied first; a failure leaves no file.
  virtual absl::Status CreateSized(const std::string& path, uint64_t bytes) = 0;
  // Writes all of `data` into a file that exists.
  virtual absl::Status WriteAt(const std::string& path, uint64_t offset, std::span<const std::byte> data) = 0;
  // Fills all of `out`; OUT_OF_RANGE when the file ends before.
  virtual absl::Status ReadAt(const std::string& path, uint64_t offset, std::span<std::byte> out) = 0;
  // Bytes of a file.
  virtual absl::StatusOr<uint64_t> Size(const std::string& path) = 0;
  // The entries of a folder, sorted by name, without "." and "..".
  virtual absl::StatusOr<std::vector<BlobEntry>> List(const std::string& path) = 0;
  // Atomic within a file system; replaces a file, or an empty folder, at `to`. On disk when it returns.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // Deletes a file, or a folder with all that is in it (symbolic links themselves, not what they point to). Fine when
  // there is nothing.
  virtual absl::Status RemoveTree(const std::string& path) = 0;
  // Writes a whole file so that a reader, or a machine that lost power, sees the old bytes or the new ones, never a
  // part: temporary file, fsync, rename, fsync of the folder.
  virtual absl::Status WriteAtomic(const std::string& path, std::string_view data) = 0;
  // Returns when what was written to the file, or the folder's list of entries, is on disk.
  virtual absl::Status Sync(const std::string& path) = 0;
};

// The local disk; one for the process, never destroyed.
Blobs& LocalDisk();

// Reads a whole file of at most `bytes_max` bytes (RESOURCE_EXHAUSTED above).
absl::StatusOr<std::string> ReadWholeBlob(Blobs& blobs, const std::string& path, uint64_t bytes_max);

// "folder/name", without doubling the slash.
std::string JoinPath(std::string_view folder, std::string_view name);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_STORAGE_BLOBS_H_
