// The safetensors format: a u64 little-endian header length, a JSON header, then the tensors' bytes, row-major and
// packed. https://huggingface.co/docs/safetensors
//
// The header of a foreign file is never trusted: every length, offset, dtype, shape and name is checked against the
// others and against the file's size before anything is read. Errors are INVALID_ARGUMENT naming file and entry.
//
//   PENSTOCK_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(LocalDisk(), "model.safetensors"));
//   std::vector<float> wte(file.header().Find("wte")->elements());
//   PENSTOCK_RETURN_IF_ERROR(file.ReadFloats("wte", 0, std::span(wte)));
//
// Thread-safe: SafetensorsFile is constant after Open and doesn't own its Blobs, which must outlive it.
#ifndef PENSTOCK_SERVICES_STORAGE_SAFETENSORS_H_
#define PENSTOCK_SERVICES_STORAGE_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/storage/blobs.h"

namespace penstock {

// The format's own limit on its JSON header.
inline constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;
// Our limits on what a header may hold; far above any model's, far below what hurts.
inline constexpr size_t kSafetensorsTensorsMax = 1'000'000;
inline constexpr size_t kSafetensorsAxesMax = 32;
inline constexpr size_t kSafetensorsNameBytesMax = 4096;

enum class Dtype { kBool, kU8, kI8, kF8E5M2, kF8E4M3, kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kF64, kI64, kU64 };

// "F32".
std::string_view DtypeName(Dtype dtype);
uint64_t DtypeBytes(Dtype dtype);

struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<uint64_t> shape;
  // Bytes [begin, end) of the file, counted from the file's start.
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t elements() const { return (end - begin) / DtypeBytes(dtype); }
};

class SafetensorsHeader {
 public:
  SafetensorsHeader() = default;
  SafetensorsHeader(std::vector<SafetensorsEntry> entries, std::map<std::string, std::string> metadata,
                    uint64_t data_begin);

  // In the order of their bytes in the file.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Where the data starts in the file.
  uint64_t data_begin() const { return data_begin_; }
  // Null when there is no such tensor.
  const SafetensorsEntry* Find(std::string_view name) const;

 private:
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, size_t, std::less<>> by_name_;
  uint64_t data_begin_ = 0;
};

// Bytes of the JSON header, from the file's first 8 bytes; checks them against the limit and the file's size.
absl::StatusOr<uint64_t> SafetensorsHeaderBytes(std::span<const std::byte, 8> length, uint64_t file_bytes);

// Parses the file's beginning: the 8 bytes of length and the whole JSON header (more may follow and is ignored). Pure.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view beginning, uint64_t file_bytes);

// What a writer says about a tensor.
struct SafetensorsTensor {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<uint64_t> shape;
};

// The file's beginning for tensors that lie in this order: length and JSON, padded with spaces so that the data starts
// 8-byte aligned. INVALID_ARGUMENT for doubled or unfit names and for sizes that overflow.
absl::StatusOr<std::string> FormatSafetensorsHeader(const std::vector<SafetensorsTensor>& tensors,
                                                    const std::map<std::string, std::string>& metadata);

class SafetensorsFile {
 public:
  static absl::StatusOr<SafetensorsFile> Open(Blobs& blobs, const std::string& path);

  const std::string& path() const { return path_; }
  const SafetensorsHeader& header() const { return header_; }

  // Reads the tensor's bytes [offset, offset + out.size()). NOT_FOUND: no such tensor. OUT_OF_RANGE: past its end.
  absl::Status Read(std::string_view name, uint64_t offset, std::span<std::byte> out) const;
  // Elements [first, first + out.size()) of an F32 tensor; INVALID_ARGUMENT for another dtype.
  absl::Status ReadFloats(std::string_view name, uint64_t first, std::span<float> out) const;

 private:
  SafetensorsFile(Blobs& blobs, std::string path, SafetensorsHeader header)
      : blobs_(&blobs), path_(std::move(path)), header_(std::move(header)) {}

  Blobs* blobs_;
  std::string path_;
  SafetensorsHeader header_;
};

// A tensor and its bytes, which must outlive the call.
struct SafetensorsTensorData {
  SafetensorsTensor tensor;
  std::span<const std::byte> data;
};

// Writes a whole file at once, in the order given, and has it on disk. For small sets; checkpoints write by ranges.
absl::Status WriteSafetensors(Blobs& blobs, const std::string& path, const std::vector<SafetensorsTensorData>& tensors,
                              const std::map<std::string, std::string>& metadata);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_STORAGE_SAFETENSORS_H_
