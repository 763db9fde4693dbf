// Any text as manifest.json: refused as damaged, or a manifest that writes and reads again. Half of the inputs get the
// right checksum, since behind a wrong one nothing else is read.
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/checkpoint/manifest.h"

namespace {

std::string WithChecksum(const std::string& body) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(body.data(), body.size()));
  const absl::string_view digest(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest));
  return absl::StrCat(body, "\n  \"checksum\": \"", absl::BytesToHexString(digest), "\"\n}\n");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  if (const size_t checksum = text.rfind("\n  \"checksum\""); checksum == std::string::npos) {
    text = WithChecksum(text);
  } else if (size % 2 == 0) {
    text = WithChecksum(text.substr(0, checksum));
  }
  const auto manifest = penstock::ParseManifest(text);
  if (!manifest.ok()) {
    PENSTOCK_CHECK(manifest.status().code() == absl::StatusCode::kDataLoss ||
                   manifest.status().code() == absl::StatusCode::kUnimplemented);
    return 0;
  }
  (void)penstock::CheckResume(*manifest, manifest->spec);
  const auto again = penstock::ParseManifest(penstock::FormatManifest(*manifest));
  PENSTOCK_CHECK(again.ok() && again->digest == manifest->digest && again->files.size() == manifest->files.size());
  return 0;
}
