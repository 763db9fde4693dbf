#include "services/storage/fake_blobs.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

bool IsInside(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 && path[folder.size()] == '/';
}

absl::Status NoSuchFile(const std::string& path) {
  return absl::NotFoundError(absl::StrCat(path, ": no such file or folder"));
}

absl::Status DiskFull(const std::string& path, uint64_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(path, ": can't write ", bytes, " bytes: the disk is full"));
}

}  // namespace

bool FakeBlobs::IsFolder(const std::string& path) const {
  return path.empty() || path == "/" || folders_.contains(path);
}

absl::Status FakeBlobs::CheckParent(const std::string& path) const {
  return IsFolder(ParentOf(path)) ? absl::OkStatus() : NoSuchFile(ParentOf(path));
}

absl::Status FakeBlobs::Charge(const std::string& path, uint64_t wanted, uint64_t* granted) {
  *granted = wanted;
  if (!bytes_free_.has_value()) return absl::OkStatus();
  *granted = std::min(wanted, *bytes_free_);
  *bytes_free_ -= *granted;
  return *granted == wanted ? absl::OkStatus() : DiskFull(path, wanted);
}

absl::Status FakeBlobs::CreateFolders(const std::string& path) {
  std::lock_guard lock(mutex_);
  for (std::string folder = path; !IsFolder(folder); folder = ParentOf(folder)) {
    if (files_.contains(folder)) {
      return absl::FailedPreconditionError(absl::StrCat(folder, ": is a file where a folder is expected"));
    }
    folders_.insert(folder);
  }
  return absl::OkStatus();
}

absl::Status FakeBlobs::CreateSized(const std::string& path, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckParent(path));
  if (IsFolder(path)) return absl::FailedPreconditionError(absl::StrCat(path, ": is a folder"));
  files_.erase(path);
  if (reserve_) {
    if (bytes_free_.has_value() && *bytes_free_ < bytes) return DiskFull(path, bytes);
    uint64_t granted;
    PENSTOCK_RETURN_IF_ERROR(Charge(path, bytes, &granted));
  }
  files_[path].bytes.resize(bytes);
  return absl::OkStatus();
}

absl::Status FakeBlobs::WriteAt(const std::string& path, uint64_t offset, std::span<const std::byte> data) {
  std::lock_guard lock(mutex_);
  const auto it = files_.find(path);
  if (it == files_.end()) return NoSuchFile(path);
  uint64_t granted = data.size();
  const absl::Status status = reserve_ ? absl::OkStatus() : Charge(path, data.size(), &granted);
  std::vector<std::byte>& bytes = it->second.bytes;
  if (offset + granted > bytes.size()) bytes.resize(offset + granted);
  std::copy_n(data.begin(), granted, bytes.begin() + static_cast<int64_t>(offset));
  return status;
}

absl::Status FakeBlobs::ReadAt(const std::string& path, uint64_t offset, std::span<std::byte> out) {
  std::lock_guard lock(mutex_);
  const auto it = files_.find(path);
  if (it == files_.end()) return NoSuchFile(path);
  const std::vector<std::byte>& bytes = it->second.bytes;
  if (offset > bytes.size() || out.size() > bytes.size() - offset) {
    return absl::OutOfRangeError(absl::StrCat(path, ": ends at byte ", bytes.size()));
  }
  const auto broken = broken_reads_.find(path);
  if (broken != broken_reads_.end() && broken->second >= offset && broken->second - offset < out.size()) {
    return absl::DataLossError(absl::StrCat(path, ": can't read ", out.size(), " bytes at offset ", offset));
  }
  std::copy_n(bytes.begin() + static_cast<int64_t>(offset), out.size(), out.begin());
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FakeBlobs::Size(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (IsFolder(path)) return absl::FailedPreconditionError(absl::StrCat(path, ": isn't a file"));
  const auto it = files_.find(path);
  if (it == files_.end()) return NoSuchFile(path);
  return it->second.bytes.size();
}

absl::StatusOr<std::vector<BlobEntry>> FakeBlobs::List(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (!IsFolder(path)) return NoSuchFile(path);
  std::vector<BlobEntry> list;
  for (const auto& [name, file] : files_) {
    if (ParentOf(name) == path) list.push_back({name.substr(path.size() + 1), false});
  }
  for (const std::string& name : folders_) {
    if (ParentOf(name) == path) list.push_back({name.substr(path.size() + 1), true});
  }
  std::sort(list.begin(), list.end(), [](const BlobEntry& a, const BlobEntry& b) { return a.name < b.name; });
  return list;
}

absl::Status FakeBlobs::Rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckParent(to));
  if (const auto it = files_.find(from); it != files_.end()) {
    File file = std::move(it->second);
    files_.erase(it);
    files_[to] = std::move(file);
    return absl::OkStatus();
  }
  if (!folders_.contains(from)) return NoSuchFile(from);
  const auto inside_target = [&to](const auto& entry) { return IsInside(entry, to); };
  if (files_.contains(to) || std::any_of(folders_.begin(), folders_.end(), inside_target) ||
      std::any_of(files_.begin(), files_.end(), [&](const auto& file) { return inside_target(file.first); })) {
    return absl::FailedPreconditionError(absl::StrCat(from, ": can't rename it to ", to, ": that isn't empty"));
  }
  std::map<std::string, File> files;
  for (auto& [name, file] : files_) {
    files[IsInside(name, from) ? to + name.substr(from.size()) : name] = std::move(file);
  }
  std::set<std::string> folders;
  for (const std::string& name : folders_) {
    folders.insert(name == from || IsInside(name, from) ? to + name.substr(from.size()) : name);
  }
  files_ = std::move(files);
  folders_ = std::move(folders);
  return absl::OkStatus();
}

absl::Status FakeBlobs::RemoveTree(const std::string& path) {
  std::lock_guard lock(mutex_);
  std::erase_if(files_, [&](const auto& file) { return file.first == path || IsInside(file.first, path); });
  std::erase_if(folders_, [&](const auto& folder) { return folder == path || IsInside(folder, path); });
  return absl::OkStatus();
}

absl::Status FakeBlobs::WriteAtomic(const std::string& path, std::string_view data) {
  std::lock_guard lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckParent(path));
  if (broken_syncs_.erase(path) > 0) {
    return absl::DataLossError(absl::StrCat(path, ": can't bring it to the disk"));
  }
  uint64_t granted;
  PENSTOCK_RETURN_IF_ERROR(Charge(path, data.size(), &granted));
  const auto bytes = std::as_bytes(std::span(data));
  files_[path].bytes.assign(bytes.begin(), bytes.end());
  files_[path].synced = files_[path].bytes;
  return absl::OkStatus();
}

absl::Status FakeBlobs::Sync(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (broken_syncs_.erase(path) > 0) {
    return absl::DataLossError(absl::StrCat(path, ": can't bring it to the disk"));
  }
  if (IsFolder(path)) return absl::OkStatus();
  const auto it = files_.find(path);
  if (it == files_.end()) return NoSuchFile(path);
  it->second.synced = it->second.bytes;
  return absl::OkStatus();
}

void FakeBlobs::FillDiskAfter(uint64_t bytes, bool reserve) {
  std::lock_guard lock(mutex_);
  bytes_free_ = bytes;
  reserve_ = reserve;
}

void FakeBlobs::FreeDisk() {
  std::lock_guard lock(mutex_);
  bytes_free_.reset();
  reserve_ = false;
}

void FakeBlobs::BreakReads(const std::string& path, uint64_t offset) {
  std::lock_guard lock(mutex_);
  broken_reads_[path] = offset;
}

void FakeBlobs::BreakNextSync(const std::string& path) {
  std::lock_guard lock(mutex_);
  broken_syncs_.insert(path);
}

void FakeBlobs::LosePower() {
  std::lock_guard lock(mutex_);
  for (auto& [name, file] : files_) {
    file.synced.resize(file.bytes.size());
    file.bytes = file.synced;
  }
}

std::vector<std::byte>* FakeBlobs::MutableFile(const std::string& path) {
  std::lock_guard lock(mutex_);
  const auto it = files_.find(path);
  return it == files_.end() ? nullptr : &it->second.bytes;
}

}  // namespace penstock
