// The scalar half of FieldReader: one reader for each type that the schema has.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/jobfile/field_reader.h"
#include "services/jobfile/suggest.h"
#include "services/jobfile/value_text.h"

namespace penstock {
namespace {

using google::protobuf::EnumValueDescriptor;

constexpr size_t kShownMax = 60;
// Of a name or a path.
constexpr size_t kStringBytesMax = 4096;

// "is 12x", "is a list".
std::string Found(const YamlNode& value) {
  switch (value.kind) {
    case YamlNode::Kind::kNull:
      return "has no value";
    case YamlNode::Kind::kSequence:
      return "is a list";
    case YamlNode::Kind::kMap:
      return "is a map";
    case YamlNode::Kind::kScalar:
      break;
  }
  const std::string shown = absl::StrCat(absl::Utf8SafeCHexEscape(value.text.substr(0, kShownMax)),
                                         value.text.size() > kShownMax ? "..." : "");
  return value.quoted ? absl::StrCat("is the text \"", shown, "\"") : absl::StrCat("is ", shown);
}

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// A number as people write it; nothing when the text isn't one. Infinite where it is too large.
bool ParseDouble(std::string_view text, double* value) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument) return false;
  if (error == std::errc::result_out_of_range) *value = std::numeric_limits<double>::infinity();
  // from_chars reads "nan" and "inf", too, which are words here.
  return text.find_first_of("0123456789") != std::string_view::npos;
}

// What would be right for a whole number that was written in another way.
std::string WholeNumberHint(const YamlNode& value, uint64_t max) {
  double number = 0;
  if (value.kind == YamlNode::Kind::kScalar && ParseDouble(value.text, &number)) {
    if (number < 0) return "a whole number of 0 or more is expected";
    if (number > static_cast<double>(max) || number >= 0x1p64) return absl::StrCat("at most ", max, " is possible");
    if (number == std::floor(number) && number < 0x1p53) {
      return absl::StrCat("write it as ", static_cast<uint64_t>(number));
    }
  }
  return "a whole number is expected";
}

}  // namespace

void FieldReader::ReadValue(const YamlNode& value, const std::string& path, const Field& field, Message* message) {
  switch (field.cpp_type()) {
    case Field::CPPTYPE_UINT32:
    case Field::CPPTYPE_UINT64:
      return ReadUnsigned(value, path, field, message);
    case Field::CPPTYPE_DOUBLE:
      return ReadDouble(value, path, field, message);
    case Field::CPPTYPE_BOOL:
      return ReadBool(value, path, field, message);
    case Field::CPPTYPE_ENUM:
      return ReadEnum(value, path, field, message);
    case Field::CPPTYPE_STRING:
      return ReadString(value, path, field, message);
    default:
      // The schema has no others; its test reads every field.
      return Fail(value.line, path, "can't be written in a job file");
  }
}

void FieldReader::ReadUnsigned(const YamlNode& value, const std::string& path, const Field& field, Message* message) {
  const bool is_32 = field.cpp_type() == Field::CPPTYPE_UINT32;
  const uint64_t max = is_32 ? std::numeric_limits<uint32_t>::max() : std::numeric_limits<uint64_t>::max();
  uint64_t number = 0;
  bool fits = false;
  // 010 would be eight to some readers and ten to others.
  if (value.kind == YamlNode::Kind::kScalar && !value.quoted && IsDigits(value.text) &&
      (value.text.size() == 1 || value.text.front() != '0')) {
    const auto [end, error] = std::from_chars(value.text.data(), value.text.data() + value.text.size(), number);
    fits = error == std::errc() && number <= max;
  }
  if (!fits) return Fail(value.line, path, absl::StrCat(Found(value), "; ", WholeNumberHint(value, max)));
  if (is_32) {
    message->GetReflection()->SetUInt32(message, &field, static_cast<uint32_t>(number));
  } else {
    message->GetReflection()->SetUInt64(message, &field, number);
  }
}

void FieldReader::ReadDouble(const YamlNode& value, const std::string& path, const Field& field, Message* message) {
  double number = 0;
  if (value.kind != YamlNode::Kind::kScalar || value.quoted || !ParseDouble(value.text, &number)) {
    return Fail(value.line, path, absl::StrCat(Found(value), "; a number such as 0.1 or 1e-3 is expected"));
  }
  if (!std::isfinite(number)) {
    return Fail(value.line, path, absl::StrCat(Found(value), ", which is beyond what a double can hold"));
  }
  message->GetReflection()->SetDouble(message, &field, number);
}

void FieldReader::ReadBool(const YamlNode& value, const std::string& path, const Field& field, Message* message) {
  if (value.kind != YamlNode::Kind::kScalar || value.quoted || (value.text != "true" && value.text != "false")) {
    return Fail(value.line, path, absl::StrCat(Found(value), "; use true or false"));
  }
  message->GetReflection()->SetBool(message, &field, value.text == "true");
}

void FieldReader::ReadEnum(const YamlNode& value, const std::string& path, const Field& field, Message* message) {
  // JSON has no other way than quotes.
  const EnumValueDescriptor* found =
      value.kind == YamlNode::Kind::kScalar ? FindEnumText(*field.enum_type(), value.text) : nullptr;
  if (found != nullptr) return message->GetReflection()->SetEnum(message, &field, found);
  const std::vector<std::string> choices = EnumTexts(*field.enum_type());
  const std::string nearest = value.kind == YamlNode::Kind::kScalar ? NearestName(value.text, choices) : "";
  if (choices.size() == 1) {
    return Fail(value.line, path, absl::StrCat(Found(value), "; this version knows only `", choices.front(), "`"));
  }
  Fail(value.line, path,
       absl::StrCat(Found(value), nearest.empty() ? "" : absl::StrCat("; did you mean `", nearest, "`?"), "; use ",
                    absl::StrJoin(choices, ", ")));
}

void FieldReader::ReadString(const YamlNode& value, const std::string& path, const Field& field, Message* message) {
  if (value.kind != YamlNode::Kind::kScalar) {
    return Fail(value.line, path, absl::StrCat(Found(value), "; a text is expected, \"\" for an empty one"));
  }
  if (value.text.size() > kStringBytesMax) {
    return Fail(value.line, path,
                absl::StrCat("has ", value.text.size(), " bytes; at most ", kStringBytesMax, " are possible"));
  }
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::any_of(value.text.begin(), value.text.end(), is_control)) {
    return Fail(value.line, path, absl::StrCat(Found(value), ", which has control characters; write it on one line"));
  }
  message->GetReflection()->SetString(message, &field, value.text);
}

void FieldReader::ReadResume(const YamlNode& value, const std::string& path, Message* message) {
  if (value.kind != YamlNode::Kind::kScalar || value.text.empty()) {
    return Fail(value.line, path, absl::StrCat(Found(value), "; use auto, never, or the path of a checkpoint"));
  }
  const auto& type = *message->GetDescriptor();
  const auto& reflection = *message->GetReflection();
  const Field& resume = *type.FindFieldByName("resume");
  const Field& resume_path = *type.FindFieldByName("resume_path");
  reflection.ClearField(message, &resume_path);
  if (value.text == "auto" || value.text == "never") {
    return reflection.SetEnum(message, &resume, FindEnumText(*resume.enum_type(), value.text));
  }
  reflection.SetEnum(message, &resume, FindEnumText(*resume.enum_type(), "path"));
  file_->positions["checkpoint.resume_path"] = PositionOf(value.line);
  ReadString(value, path, resume_path, message);
}

}  // namespace penstock
