// The header of a safetensors file, from bytes that nobody vouches for.

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/storage/safetensors.h"

namespace penstock {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian and so are we");

constexpr std::string_view kMetadataKey = "__metadata__";

std::optional<Dtype> DtypeOf(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(Dtype::kU64); ++i) {
    if (DtypeName(static_cast<Dtype>(i)) == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

// A name as an error shows it: escaped, and not longer than a line.
std::string Shown(const std::string& name) {
  constexpr size_t kShownMax = 100;
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(name.substr(0, kShownMax)), name.size() > kShownMax ? "..." : "",
                      "\"");
}

// Receives the JSON's events in order, so that doubled keys show, nothing is built that isn't wanted, and nesting costs
// nothing. Each event either fits the format's fixed shape or ends the parse.
class HeaderSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override { return Misfit("null"); }
  bool boolean(bool) override { return Misfit("a boolean"); }
  bool number_integer(number_integer_t) override { return Misfit("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override {
    return Misfit(absl::StrCat("the number ", text.substr(0, 40)));
  }
  bool binary(binary_t&) override { return Misfit("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShapeItems) {
      if (shape_.size() == kSafetensorsAxesMax)
        return Fail(absl::StrCat("has more than ", kSafetensorsAxesMax, " axes"));
      shape_.push_back(value);
      return true;
    }
    if (state_ == State::kOffsetItems) {
      if (offsets_.size() == 2) return Fail("data_offsets has more than two numbers");
      offsets_.push_back(value);
      return true;
    }
    return Misfit("a number");
  }

  bool string(string_t& value) override {
    if (state_ == State::kDtypeValue) {
      dtype_ = DtypeOf(value);
      if (!dtype_.has_value()) return Fail(absl::StrCat("has the unknown dtype ", Shown(value)));
      state_ = State::kEntryKeys;
      return true;
    }
    if (state_ == State::kMetadataValue) {
      metadata[key_] = std::move(value);
      state_ = State::kMetadataKeys;
      return true;
    }
    return Misfit("a string");
  }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kTopKeys;
        return true;
      case State::kTopValue:
        if (name_ == kMetadataKey) {
          state_ = State::kMetadataKeys;
          return true;
        }
        if (entries.size() == kSafetensorsTensorsMax) {
          return Fail(absl::StrCat("is one too many: at most ", kSafetensorsTensorsMax, " tensors are read"));
        }
        dtype_.reset();
        shape_.clear();
        offsets_.clear();
        has_shape_ = has_offsets_ = false;
        state_ = State::kEntryKeys;
        return true;
      default:
        return Misfit("an object");
    }
  }

  bool key(string_t& key) override {
    switch (state_) {
      case State::kTopKeys:
        name_ = std::move(key);
        if (name_.size() > kSafetensorsNameBytesMax) return Fail("has too long a name");
        if (!names_.insert(name_).second) return Fail("comes twice");
        state_ = State::kTopValue;
        return true;
      case State::kMetadataKeys:
        key_ = std::move(key);
        if (metadata.contains(key_)) return Fail(absl::StrCat("has the key ", Shown(key_), " twice"));
        state_ = State::kMetadataValue;
        return true;
      case State::kEntryKeys:
        return EntryKey(key);
      default:
        return Misfit("a key");
    }
  }

  bool end_object() override {
    if (state_ == State::kEntryKeys) {
      if (!dtype_.has_value()) return Fail("has no dtype");
      if (!has_shape_) return Fail("has no shape");
      if (!has_offsets_) return Fail("has no data_offsets");
      entries.push_back({name_, *dtype_, shape_, offsets_[0], offsets_[1]});
    }
    state_ = state_ == State::kTopKeys ? State::kEnd : State::kTopKeys;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kShapeValue) {
      state_ = State::kShapeItems;
      return true;
    }
    if (state_ == State::kOffsetValue) {
      state_ = State::kOffsetItems;
      return true;
    }
    return Misfit("an array");
  }

  bool end_array() override {
    if (state_ == State::kOffsetItems && offsets_.size() != 2) return Fail("data_offsets needs two numbers");
    state_ = State::kEntryKeys;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& what) override {
    // Without the library's "[json.exception...] " in front.
    const std::string text = what.what();
    const size_t bracket = text.find("] ");
    error = absl::StrCat("the header isn't sound JSON at byte ", position, ": ",
                         absl::Utf8SafeCHexEscape(text.substr(bracket == std::string::npos ? 0 : bracket + 2)));
    return false;
  }

 private:
  enum class State {
    kStart,
    kTopKeys,
    kTopValue,
    kMetadataKeys,
    kMetadataValue,
    kEntryKeys,
    kDtypeValue,
    kShapeValue,
    kShapeItems,
    kOffsetValue,
    kOffsetItems,
    kEnd,
  };

  bool EntryKey(const std::string& key) {
    if (key == "dtype") {
      if (dtype_.has_value()) return Fail("has dtype twice");
      state_ = State::kDtypeValue;
    } else if (key == "shape") {
      if (std::exchange(has_shape_, true)) return Fail("has shape twice");
      state_ = State::kShapeValue;
    } else if (key == "data_offsets") {
      if (std::exchange(has_offsets_, true)) return Fail("has data_offsets twice");
      state_ = State::kOffsetValue;
    } else {
      return Fail(absl::StrCat("has the unknown key ", Shown(key), "; an entry has dtype, shape and data_offsets"));
    }
    return true;
  }

  bool Fail(const std::string& what) {
    error = name_.empty() && state_ == State::kStart ? absl::StrCat("the header ", what)
                                                     : absl::StrCat("entry ", Shown(name_), " ", what);
    return false;
  }
  bool Misfit(const std::string& found) { return Fail(absl::StrCat("has ", found, " where ", Expected(), " belongs")); }
  std::string Expected() const {
    switch (state_) {
      case State::kStart:
      case State::kTopValue:
        return "an object";
      case State::kDtypeValue:
        return "the name of a dtype";
      case State::kMetadataValue:
        return "a string";
      case State::kShapeValue:
      case State::kOffsetValue:
        return "an array";
      case State::kShapeItems:
      case State::kOffsetItems:
        return "an unsigned 64-bit integer";
      default:
        return "nothing";
    }
  }

  State state_ = State::kStart;
  absl::flat_hash_set<std::string> names_;
  std::string name_;
  std::string key_;
  std::optional<Dtype> dtype_;
  std::vector<uint64_t> shape_;
  std::vector<uint64_t> offsets_;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

// The tensor's bytes by its shape; nothing when that overflows.
std::optional<uint64_t> BytesByShape(const SafetensorsEntry& entry) {
  uint64_t bytes = DtypeBytes(entry.dtype);
  // A zero anywhere makes it empty, whatever the other axes' product would be.
  if (std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end()) return 0;
  for (const uint64_t axis : entry.shape) {
    if (__builtin_mul_overflow(bytes, axis, &bytes)) return std::nullopt;
  }
  return bytes;
}

// The entries must cover the data without overlap and without hole, each with the bytes that its shape says.
absl::Status CheckOffsets(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes) {
  uint64_t at = 0;
  const SafetensorsEntry* before = nullptr;
  for (const SafetensorsEntry& entry : entries) {
    const std::string who = absl::StrCat("entry ", Shown(entry.name), " ");
    const std::string offsets = absl::StrCat("data_offsets [", entry.begin, ", ", entry.end, "]");
    if (entry.begin > entry.end)
      return absl::InvalidArgumentError(absl::StrCat(who, "ends before it begins: ", offsets));
    if (entry.end > data_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(who, "has ", offsets, ", past the end of the file's ", data_bytes, " bytes of data"));
    }
    const std::optional<uint64_t> bytes = BytesByShape(entry);
    if (!bytes.has_value()) return absl::InvalidArgumentError(absl::StrCat(who, "has a shape whose size overflows"));
    if (*bytes != entry.end - entry.begin) {
      return absl::InvalidArgumentError(
          absl::StrCat(who, "has ", entry.end - entry.begin, " bytes, but its shape and dtype need ", *bytes));
    }
    if (entry.begin < at) {
      return absl::InvalidArgumentError(absl::StrCat(who, "overlaps entry ", Shown(before->name), ": ", offsets));
    }
    if (entry.begin > at) {
      return absl::InvalidArgumentError(
          absl::StrCat("bytes [", at, ", ", entry.begin, ") before entry ", Shown(entry.name), " belong to no tensor"));
    }
    at = entry.end;
    before = &entry;
  }
  if (at != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the tensors end at byte ", at, " of the data, but the file has ", data_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> SafetensorsHeaderBytes(std::span<const std::byte, 8> length, uint64_t file_bytes) {
  uint64_t header_bytes;
  std::memcpy(&header_bytes, length.data(), sizeof(header_bytes));
  if (file_bytes < sizeof(header_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("has only ", file_bytes, " bytes; isn't a safetensors file"));
  }
  if (header_bytes > kSafetensorsHeaderBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("claims a header of ", header_bytes, " bytes; at most ",
                                                   kSafetensorsHeaderBytesMax,
                                                   " are allowed; is it a safetensors file?"));
  }
  if (header_bytes > file_bytes - sizeof(header_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("claims a header of ", header_bytes,
                                                   " bytes, but the file has only ", file_bytes,
                                                   "; it is cut, or isn't a safetensors file"));
  }
  return header_bytes;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view beginning, uint64_t file_bytes) {
  constexpr size_t kLengthBytes = 8;
  if (beginning.size() < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat("has only ", beginning.size(), " bytes; isn't a safetensors file"));
  }
  PENSTOCK_ASSIGN_OR_RETURN(
      const uint64_t header_bytes,
      SafetensorsHeaderBytes(std::as_bytes(std::span(beginning)).first<kLengthBytes>(), file_bytes));
  if (header_bytes > beginning.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat("its header has ", header_bytes, " bytes, of which only ",
                                                   beginning.size() - kLengthBytes, " are there"));
  }
  const std::string_view json = beginning.substr(kLengthBytes, header_bytes);
  if (json.empty() || json.front() != '{') {
    return absl::InvalidArgumentError("its header doesn't start with '{'; isn't a safetensors file");
  }
  // The parser would take it for the end, and what follows for nothing.
  if (json.find('\0') != std::string_view::npos) return absl::InvalidArgumentError("its header has a null byte");
  HeaderSax sax;
  try {
    if (!nlohmann::json::sax_parse(json.begin(), json.end(), &sax)) return absl::InvalidArgumentError(sax.error);
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("its header can't be read: ", e.what()));
  }
  std::sort(sax.entries.begin(), sax.entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const uint64_t data_begin = kLengthBytes + header_bytes;
  PENSTOCK_RETURN_IF_ERROR(CheckOffsets(sax.entries, file_bytes - data_begin));
  for (SafetensorsEntry& entry : sax.entries) {
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  return SafetensorsHeader(std::move(sax.entries), std::move(sax.metadata), data_begin);
}

}  // namespace penstock
