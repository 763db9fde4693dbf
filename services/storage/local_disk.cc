#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/storage/blobs.h"
#include "services/storage/file_descriptor.h"

namespace penstock {
namespace {

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// Takes the space, so that a full disk is known before the first byte is written.
absl::Status Reserve(const FileDescriptor& file, const std::string& path, uint64_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  if (bytes > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) {
    return absl::OutOfRangeError(absl::StrCat(path, ": can't make a file of ", bytes, " bytes"));
  }
  int result;
  do {
    result = ::fallocate(file.get(), 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  const std::string action = absl::StrCat("make a file of ", bytes, " bytes");
  if (errno != EOPNOTSUPP && errno != ENOSYS) return SystemError(errno, action, path);
  // This file system can't reserve; a full disk shows when the bytes are written.
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return SystemError(errno, action, path);
  return absl::OkStatus();
}

class Disk final : public Blobs {
 public:
  absl::Status CreateFolders(const std::string& path) override {
    std::error_code error;
    std::vector<std::string> missing;
    for (std::string folder = path; !std::filesystem::is_directory(folder, error); folder = ParentOf(folder)) {
      if (std::filesystem::exists(folder, error)) {
        return absl::FailedPreconditionError(absl::StrCat(folder, ": is a file where a folder is expected"));
      }
      missing.push_back(folder);
      // A path that leads nowhere ends here; making it below says why.
      if (ParentOf(folder) == folder || folder == ".") break;
    }
    std::filesystem::create_directories(path, error);
    if (error) return SystemError(error.value(), "make the folder", path);
    // A folder is only there for good once the one above it is on disk.
    for (const std::string& folder : missing) PENSTOCK_RETURN_IF_ERROR(Sync(ParentOf(folder)));
    return absl::OkStatus();
  }

  absl::Status CreateSized(const std::string& path, uint64_t bytes) override {
    PENSTOCK_ASSIGN_OR_RETURN(FileDescriptor file,
                              FileDescriptor::Open(path, O_WRONLY | O_CREAT | O_TRUNC, "make the file"));
    absl::Status status = Reserve(file, path, bytes);
    if (status.ok()) status = file.Close(path);
    if (!status.ok()) ::unlink(path.c_str());
    return status;
  }

  absl::Status WriteAt(const std::string& path, uint64_t offset, std::span<const std::byte> data) override {
    PENSTOCK_ASSIGN_OR_RETURN(FileDescriptor file, FileDescriptor::Open(path, O_WRONLY, "open it to write"));
    PENSTOCK_RETURN_IF_ERROR(WriteFully(file, path, offset, data));
    return file.Close(path);
  }

  absl::Status ReadAt(const std::string& path, uint64_t offset, std::span<std::byte> out) override {
    PENSTOCK_ASSIGN_OR_RETURN(FileDescriptor file, FileDescriptor::Open(path, O_RDONLY, "open it to read"));
    return ReadFully(file, path, offset, out);
  }

  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    struct stat facts;
    if (::stat(path.c_str(), &facts) != 0) return SystemError(errno, "look at it", path);
    if (!S_ISREG(facts.st_mode)) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": isn't a file"));
    }
    return static_cast<uint64_t>(facts.st_size);
  }

  absl::StatusOr<std::vector<BlobEntry>> List(const std::string& path) override {
    std::error_code error;
    std::filesystem::directory_iterator entries(path, error);
    if (error) return SystemError(error.value(), "list the folder", path);
    std::vector<BlobEntry> list;
    const std::filesystem::directory_iterator end;
    while (entries != end) {
      std::error_code type_error;
      list.push_back({entries->path().filename().string(), entries->is_directory(type_error)});
      entries.increment(error);
      if (error) return SystemError(error.value(), "list the folder", path);
    }
    std::sort(list.begin(), list.end(), [](const BlobEntry& a, const BlobEntry& b) { return a.name < b.name; });
    return list;
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return SystemError(errno, absl::StrCat("rename it to ", to), from);
    PENSTOCK_RETURN_IF_ERROR(Sync(ParentOf(to)));
    return ParentOf(from) == ParentOf(to) ? absl::OkStatus() : Sync(ParentOf(from));
  }

  absl::Status RemoveTree(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return SystemError(error.value(), "delete it", path);
    return absl::OkStatus();
  }

  absl::Status WriteAtomic(const std::string& path, std::string_view data) override {
    static std::atomic<uint64_t> counter{0};
    const std::string temporary = absl::StrCat(path, ".tmp-", ::getpid(), "-", counter.fetch_add(1));
    absl::Status status = WriteNew(temporary, data);
    if (status.ok()) status = Rename(temporary, path);
    if (!status.ok()) ::unlink(temporary.c_str());
    return status;
  }

  // Linux keeps a write-back error until somebody has heard of it, so a descriptor that is opened now still hears of
  // what went wrong with bytes that another one wrote.
  absl::Status Sync(const std::string& path) override {
    PENSTOCK_ASSIGN_OR_RETURN(FileDescriptor file, FileDescriptor::Open(path, O_RDONLY, "open it"));
    return SyncFully(file, path);
  }

 private:
  absl::Status WriteNew(const std::string& path, std::string_view data) {
    PENSTOCK_ASSIGN_OR_RETURN(FileDescriptor file,
                              FileDescriptor::Open(path, O_WRONLY | O_CREAT | O_EXCL, "make the file"));
    PENSTOCK_RETURN_IF_ERROR(WriteFully(file, path, 0, std::as_bytes(std::span(data))));
    PENSTOCK_RETURN_IF_ERROR(SyncFully(file, path));
    return file.Close(path);
  }
};

}  // namespace

Blobs& LocalDisk() {
  static Disk* const disk = new Disk;
  return *disk;
}

}  // namespace penstock
