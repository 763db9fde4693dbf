// A job as YAML that reads back to the same job.

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/jobfile/job_file.h"
#include "services/jobfile/value_text.h"

namespace penstock {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// True for texts that need no quotes: nothing in them means anything to YAML.
bool IsPlain(const std::string& text) {
  if (text.empty()) return false;
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "null" || lower == "true" || lower == "false") return false;
  const auto is_fine = [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-'; };
  return std::all_of(text.begin(), text.end(), is_fine) && text.front() != '-' && text.front() != '.';
}

std::string Quoted(const std::string& text) {
  if (IsPlain(text)) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&quoted, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&quoted, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      quoted.push_back(c);
    }
  }
  return quoted + "\"";
}

// `resume` and `resume_path` are one field of the job file. A path that is one of its words needs to look like a path.
std::string ResumeText(const v1::CheckpointSpec& checkpoint) {
  if (checkpoint.resume() != v1::CheckpointSpec::RESUME_PATH) {
    return EnumText(*v1::CheckpointSpec::Resume_descriptor()->FindValueByNumber(checkpoint.resume()));
  }
  const std::string& path = checkpoint.resume_path();
  return Quoted(path == "auto" || path == "never" ? absl::StrCat("./", path) : path);
}

void Append(const Message& message, int indent, std::string* text) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string& full_name = field->full_name();
    if (full_name == "penstock.v1.CheckpointSpec.resume_path") continue;
    absl::StrAppend(text, std::string(indent, ' '), field->name(), ":");
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      std::string inner;
      Append(message.GetReflection()->GetMessage(message, field), indent + 2, &inner);
      absl::StrAppend(text, inner.empty() ? " {}\n" : "\n", inner);
    } else if (full_name == "penstock.v1.CheckpointSpec.resume") {
      absl::StrAppend(text, " ", ResumeText(static_cast<const v1::CheckpointSpec&>(message)), "\n");
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      absl::StrAppend(text, " ", Quoted(ScalarText(message, *field)), "\n");
    } else {
      absl::StrAppend(text, " ", ScalarText(message, *field), "\n");
    }
  }
}

}  // namespace

std::string FormatJob(const v1::JobSpec& spec) {
  std::string text;
  Append(spec, 0, &text);
  return text.empty() ? "{}\n" : text;
}

}  // namespace penstock
