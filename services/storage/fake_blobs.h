// Blobs in memory, with faults to order: for tests.
//
// Thread-safe.
#ifndef PENSTOCK_SERVICES_STORAGE_FAKE_BLOBS_H_
#define PENSTOCK_SERVICES_STORAGE_FAKE_BLOBS_H_

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "services/storage/blobs.h"

namespace penstock {

class FakeBlobs final : public Blobs {
 public:
  absl::Status CreateFolders(const std::string& path) override;
  absl::Status CreateSized(const std::string& path, uint64_t bytes) override;
  absl::Status WriteAt(const std::string& path, uint64_t offset, std::span<const std::byte> data) override;
  absl::Status ReadAt(const std::string& path, uint64_t offset, std::span<std::byte> out) override;
  absl::StatusOr<uint64_t> Size(const std::string& path) override;
  absl::StatusOr<std::vector<BlobEntry>> List(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status RemoveTree(const std::string& path) override;
  absl::Status WriteAtomic(const std::string& path, std::string_view data) override;
  absl::Status Sync(const std::string& path) override;

  // From now on only `bytes` more can be written (WriteAt, WriteAtomic), then the disk is full. A write that doesn't
  // fit leaves the part that fits, as a real one does. With `reserve` CreateSized counts against it, too; without, it
  // is a file system that can't reserve, where the full disk shows in the middle.
  void FillDiskAfter(uint64_t bytes, bool reserve = false);
  void FreeDisk();
  // Reads that touch this byte of the file fail with DATA_LOSS.
  void BreakReads(const std::string& path, uint64_t offset);
  // Sync of this path fails with DATA_LOSS, once.
  void BreakNextSync(const std::string& path);
  // The machine loses power: what was written and not synchronised is zeros again; folders keep their entries.
  void LosePower();

  // The bytes of a file, to look at or to damage; null when there is none. Not for use beside other threads.
  std::vector<std::byte>* MutableFile(const std::string& path);

 private:
  struct File {
    std::vector<std::byte> bytes;
    // As it was at the last Sync.
    std::vector<std::byte> synced;
  };
  bool IsFolder(const std::string& path) const;
  absl::Status CheckParent(const std::string& path) const;
  absl::Status Charge(const std::string& path, uint64_t wanted, uint64_t* granted);

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::map<std::string, File> files_;
  std::set<std::string> folders_;
  std::optional<uint64_t> bytes_free_;
  bool reserve_ = false;
  std::map<std::string, uint64_t> broken_reads_;
  std::set<std::string> broken_syncs_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_STORAGE_FAKE_BLOBS_H_
