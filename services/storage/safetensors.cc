#include "services/storage/safetensors.h"

#include <array>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

struct DtypeFacts {
  std::string_view name;
  uint64_t bytes;
};
// In the order of Dtype.
constexpr std::array<DtypeFacts, 15> kDtypes = {{{"BOOL", 1},
                                                 {"U8", 1},
                                                 {"I8", 1},
                                                 {"F8_E5M2", 1},
                                                 {"F8_E4M3", 1},
                                                 {"I16", 2},
                                                 {"U16", 2},
                                                 {"F16", 2},
                                                 {"BF16", 2},
                                                 {"I32", 4},
                                                 {"U32", 4},
                                                 {"F32", 4},
                                                 {"F64", 8},
                                                 {"I64", 8},
                                                 {"U64", 8}}};

// Where the data of a header that we write starts: a multiple of this many bytes.
constexpr size_t kDataAlignment = 8;

std::string Quoted(std::string_view name) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(std::string(name)), "\"");
}

absl::StatusOr<uint64_t> TensorBytes(const SafetensorsTensor& tensor) {
  uint64_t bytes = DtypeBytes(tensor.dtype);
  for (const uint64_t axis : tensor.shape) {
    if (__builtin_mul_overflow(bytes, axis, &bytes)) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(tensor.name), " has a shape that overflows"));
    }
  }
  return bytes;
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace

std::string_view DtypeName(Dtype dtype) { return kDtypes[static_cast<size_t>(dtype)].name; }
uint64_t DtypeBytes(Dtype dtype) { return kDtypes[static_cast<size_t>(dtype)].bytes; }

SafetensorsHeader::SafetensorsHeader(std::vector<SafetensorsEntry> entries, std::map<std::string, std::string> metadata,
                                     uint64_t data_begin)
    : entries_(std::move(entries)), metadata_(std::move(metadata)), data_begin_(data_begin) {
  for (size_t i = 0; i < entries_.size(); ++i) by_name_[entries_[i].name] = i;
}

const SafetensorsEntry* SafetensorsHeader::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

absl::StatusOr<std::string> FormatSafetensorsHeader(const std::vector<SafetensorsTensor>& tensors,
                                                    const std::map<std::string, std::string>& metadata) {
  // Ordered, so that the entries stand in the order of their bytes.
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::string text;
  try {
    if (!metadata.empty()) header["__metadata__"] = metadata;
    uint64_t at = 0;
    std::map<std::string_view, bool> seen;
    for (const SafetensorsTensor& tensor : tensors) {
      if (tensor.name == "__metadata__" || tensor.name.size() > kSafetensorsNameBytesMax) {
        return absl::InvalidArgumentError(absl::StrCat("a tensor can't be named ", Quoted(tensor.name)));
      }
      if (!seen.emplace(tensor.name, true).second) {
        return absl::InvalidArgumentError(absl::StrCat("two tensors are named ", Quoted(tensor.name)));
      }
      PENSTOCK_ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(tensor));
      uint64_t end;
      if (__builtin_add_overflow(at, bytes, &end)) {
        return absl::InvalidArgumentError(absl::StrCat("the data overflows at tensor ", Quoted(tensor.name)));
      }
      // push_back rather than operator[]: an ordered_json looks its keys up one by one.
      header.get_ref<nlohmann::ordered_json::object_t&>().push_back(
          {tensor.name,
           nlohmann::ordered_json{
               {"dtype", std::string(DtypeName(tensor.dtype))}, {"shape", tensor.shape}, {"data_offsets", {at, end}}}});
      at = end;
    }
    text = header.dump();
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("can't write the header: ", e.what()));
  }
  text.append((kDataAlignment - text.size() % kDataAlignment) % kDataAlignment, ' ');
  if (text.size() > kSafetensorsHeaderBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the header would have ", text.size(), " bytes; at most ",
                                                   kSafetensorsHeaderBytesMax, " are allowed"));
  }
  const uint64_t length = text.size();
  std::string beginning(reinterpret_cast<const char*>(&length), sizeof(length));
  return beginning + text;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(Blobs& blobs, const std::string& path) {
  PENSTOCK_ASSIGN_OR_RETURN(const uint64_t file_bytes, blobs.Size(path));
  std::array<std::byte, 8> length{};
  if (file_bytes >= length.size()) PENSTOCK_RETURN_IF_ERROR(blobs.ReadAt(path, 0, length));
  const absl::StatusOr<uint64_t> header_bytes = SafetensorsHeaderBytes(length, file_bytes);
  if (!header_bytes.ok()) return InFile(path, header_bytes.status());
  std::string beginning(length.size() + *header_bytes, '\0');
  PENSTOCK_RETURN_IF_ERROR(blobs.ReadAt(path, 0, std::as_writable_bytes(std::span(beginning))));
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(beginning, file_bytes);
  if (!header.ok()) return InFile(path, header.status());
  return SafetensorsFile(blobs, path, *std::move(header));
}

absl::Status SafetensorsFile::Read(std::string_view name, uint64_t offset, std::span<std::byte> out) const {
  const SafetensorsEntry* entry = header_.Find(name);
  if (entry == nullptr) return absl::NotFoundError(absl::StrCat(path_, ": has no tensor ", Quoted(name)));
  const uint64_t bytes = entry->end - entry->begin;
  if (offset > bytes || out.size() > bytes - offset) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": tensor ", Quoted(name), " has ", bytes, " bytes; wanted ",
                                              out.size(), " from offset ", offset));
  }
  return blobs_->ReadAt(path_, entry->begin + offset, out);
}

absl::Status SafetensorsFile::ReadFloats(std::string_view name, uint64_t first, std::span<float> out) const {
  const SafetensorsEntry* entry = header_.Find(name);
  if (entry != nullptr && entry->dtype != Dtype::kF32) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor ", Quoted(name), " has dtype ",
                                                   std::string(DtypeName(entry->dtype)), "; F32 is wanted"));
  }
  uint64_t offset;
  if (__builtin_mul_overflow(first, sizeof(float), &offset)) offset = std::numeric_limits<uint64_t>::max();
  return Read(name, offset, std::as_writable_bytes(out));
}

absl::Status WriteSafetensors(Blobs& blobs, const std::string& path, const std::vector<SafetensorsTensorData>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsTensor> shapes;
  for (const SafetensorsTensorData& each : tensors) {
    PENSTOCK_ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(each.tensor));
    if (bytes != each.data.size()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", Quoted(each.tensor.name), " needs ", bytes,
                                                     " bytes, but ", each.data.size(), " were given"));
    }
    shapes.push_back(each.tensor);
  }
  PENSTOCK_ASSIGN_OR_RETURN(std::string text, FormatSafetensorsHeader(shapes, metadata));
  for (const SafetensorsTensorData& each : tensors) {
    text.append(reinterpret_cast<const char*>(each.data.data()), each.data.size());
  }
  return blobs.WriteAtomic(path, text);
}

}  // namespace penstock
