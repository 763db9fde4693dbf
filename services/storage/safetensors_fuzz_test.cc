// Any bytes as a safetensors file's beginning: refused, or a header whose tensors lie within the file, in order,
// packed, each as long as its shape says; and what it says can be written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/status_macros.h"
#include "services/storage/safetensors.h"

namespace {

using penstock::SafetensorsEntry;
using penstock::SafetensorsHeader;

void CheckSound(const SafetensorsHeader& header, uint64_t file_bytes) {
  uint64_t end = header.data_begin();
  for (const SafetensorsEntry& entry : header.entries()) {
    PENSTOCK_CHECK(entry.begin == end && entry.begin <= entry.end && entry.end <= file_bytes);
    uint64_t bytes = DtypeBytes(entry.dtype);
    for (uint64_t axis : entry.shape) bytes *= axis;
    PENSTOCK_CHECK(bytes == entry.end - entry.begin);
    PENSTOCK_CHECK(header.Find(entry.name) == &entry);
    end = entry.end;
  }
  PENSTOCK_CHECK(end == file_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The first byte says how much longer the file is than its beginning: up to 4 KiB of tensors that aren't there.
  if (size == 0) return 0;
  const uint64_t file_bytes = size - 1 + uint64_t{data[0]} * 16;
  const std::string_view beginning(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto header = penstock::ParseSafetensorsHeader(beginning, file_bytes);
  if (!header.ok()) {
    PENSTOCK_CHECK(!header.status().message().empty());
    return 0;
  }
  CheckSound(*header, file_bytes);
  std::vector<penstock::SafetensorsTensor> tensors;
  for (const SafetensorsEntry& entry : header->entries()) tensors.push_back({entry.name, entry.dtype, entry.shape});
  const auto written = penstock::FormatSafetensorsHeader(tensors, header->metadata());
  PENSTOCK_CHECK(written.ok());
  const uint64_t data_bytes = file_bytes - header->data_begin();
  const auto again = penstock::ParseSafetensorsHeader(*written, written->size() + data_bytes);
  PENSTOCK_CHECK(again.ok() && again->entries().size() == tensors.size());
  PENSTOCK_CHECK(again->metadata() == header->metadata());
  return 0;
}
