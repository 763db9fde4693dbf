#include "services/checkpoint/manifest.h"

#include <google/protobuf/util/json_util.h>
#include <xxhash.h>

#include <exception>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/layout/range.h"
#include "core/model/parameter_table.h"

namespace penstock {
namespace {

// The manifest's last line is `  "checksum": "<32 digits>"`, then `}`; all before that line is what it sums up.
constexpr std::string_view kChecksumKey = "\n  \"checksum\": \"";
constexpr std::string_view kEnd = "\"\n}\n";
constexpr size_t kChecksumDigits = 32;
constexpr size_t kManifestFilesMax = 1'000'000;
constexpr int kManifestDepthMax = 16;

std::string Checksum(std::string_view text) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(text.data(), text.size()));
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)));
}

std::string SpecJson(const v1::JobSpec& spec) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // Can't fail: the schema has no Any and no Timestamp.
  PENSTOCK_CHECK(google::protobuf::util::MessageToJsonString(spec, &json, options).ok());
  return json;
}

absl::Status Damaged(const std::string& what) { return absl::DataLossError(absl::StrCat("the manifest ", what)); }

// The text whose checksum is right, without the checksum's line.
absl::StatusOr<std::string_view> CheckedBody(std::string_view text) {
  const size_t tail = kChecksumKey.size() + kChecksumDigits + kEnd.size();
  if (text.size() < tail || !text.ends_with(kEnd) ||
      text.substr(text.size() - tail, kChecksumKey.size()) != kChecksumKey) {
    return Damaged("is cut: it doesn't end with its checksum");
  }
  const std::string_view body = text.substr(0, text.size() - tail);
  const std::string_view written = text.substr(text.size() - tail + kChecksumKey.size(), kChecksumDigits);
  if (Checksum(body) != written) return Damaged("is damaged: its checksum is wrong");
  return body;
}

absl::Status ReadFiles(const nlohmann::json& json, Manifest* manifest) {
  const auto& list = json.at("files");
  if (!list.is_array() || list.size() > kManifestFilesMax) return Damaged("has no sound list of files");
  for (const auto& each : list) {
    ManifestFile file{each.at("name").get<std::string>(), each.at("bytes").get<uint64_t>()};
    // Joined to the folder's path, so it must not lead out of it.
    if (file.name.empty() || file.name.front() == '.' || file.name.find('/') != std::string::npos ||
        file.name.find('\0') != std::string::npos) {
      return Damaged(absl::StrCat("names a file \"", absl::Utf8SafeCHexEscape(file.name), "\""));
    }
    manifest->files.push_back(std::move(file));
  }
  return absl::OkStatus();
}

// Throws the library's exceptions for keys that are missing or of the wrong type.
absl::StatusOr<Manifest> ReadFields(const nlohmann::json& json) {
  const int64_t version = json.at("format_version").get<int64_t>();
  if (version != kManifestFormatVersion) {
    return absl::UnimplementedError(absl::StrCat("the manifest has format version ", version,
                                                 "; this version of Penstock reads ", kManifestFormatVersion));
  }
  Manifest manifest;
  manifest.step = json.at("step").get<uint64_t>();
  manifest.samples_consumed = json.at("samples_consumed").get<uint64_t>();
  manifest.elements = json.at("elements").get<int64_t>();
  manifest.digest = json.at("digest").get<std::string>();
  if (json.at("piece_elements").get<int64_t>() != kPieceElements) {
    return Damaged(absl::StrCat("has pieces of another size than ", kPieceElements, " elements"));
  }
  const auto& pieces = json.at("pieces");
  if (manifest.elements <= 0 || !pieces.is_array() ||
      pieces.size() != static_cast<uint64_t>(PieceCount(manifest.elements))) {
    return Damaged(
        absl::StrCat("has ", pieces.size(), " pieces, which isn't what ", manifest.elements, " elements make"));
  }
  for (const auto& each : pieces) {
    const absl::StatusOr<PieceDigests> digests = PieceDigestsFromHex(each.get<std::string>());
    if (!digests.ok()) return Damaged(absl::StrCat("has a bad piece: ", digests.status().message()));
    manifest.pieces.push_back(*digests);
  }
  if (CombineDigest(manifest.pieces, manifest.step, manifest.samples_consumed) != manifest.digest) {
    return Damaged("has a digest that its pieces don't make");
  }
  PENSTOCK_RETURN_IF_ERROR(ReadFiles(json, &manifest));
  const auto parsed = google::protobuf::util::JsonStringToMessage(json.at("job").dump(), &manifest.spec);
  if (!parsed.ok()) return Damaged(absl::StrCat("has a job that can't be read: ", parsed.ToString()));
  return manifest;
}

}  // namespace

absl::StatusOr<Manifest> MakeManifest(const v1::JobSpec& spec, uint64_t step, uint64_t samples_consumed,
                                      int64_t elements, std::span<const v1::PieceDigest> pieces) {
  Manifest manifest;
  manifest.spec = spec;
  manifest.step = step;
  manifest.samples_consumed = samples_consumed;
  manifest.elements = elements;
  PENSTOCK_ASSIGN_OR_RETURN(manifest.pieces, OrderPieces(pieces, elements));
  manifest.digest = CombineDigest(manifest.pieces, step, samples_consumed);
  return manifest;
}

std::string FormatManifest(const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["format_version"] = kManifestFormatVersion;
  json["job_name"] = manifest.spec.name();
  json["step"] = manifest.step;
  json["samples_consumed"] = manifest.samples_consumed;
  json["digest"] = manifest.digest;
  json["job"] = nlohmann::ordered_json::parse(SpecJson(manifest.spec));
  json["elements"] = manifest.elements;
  json["piece_elements"] = kPieceElements;
  json["files"] = nlohmann::ordered_json::array();
  for (const ManifestFile& file : manifest.files) json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}});
  json["pieces"] = nlohmann::ordered_json::array();
  for (const PieceDigests& piece : manifest.pieces) json["pieces"].push_back(ToHex(piece));
  // Bytes that aren't UTF-8 can't be in a proto string, but replacing them is no reason to fail a checkpoint.
  std::string text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize(text.size() - std::string_view("\n}").size());
  text.push_back(',');
  return absl::StrCat(text, std::string(kChecksumKey), Checksum(text), std::string(kEnd));
}

absl::StatusOr<Manifest> ParseManifest(std::string_view text) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::string_view body, CheckedBody(text));
  if (!body.ends_with(',')) return Damaged("is damaged: nothing stands before its checksum");
  try {
    bool too_deep = false;
    const auto limit_depth = [&too_deep](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      too_deep |= depth > kManifestDepthMax;
      return !too_deep;
    };
    const auto json = nlohmann::json::parse(std::string(body.substr(0, body.size() - 1)) + "\n}", limit_depth);
    if (too_deep) return Damaged("is nested too deeply");
    return ReadFields(json);
  } catch (const std::exception& e) {
    return Damaged(absl::StrCat("can't be read: ", e.what()));
  }
}

}  // namespace penstock
