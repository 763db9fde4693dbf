#include "services/jobfile/complete_override.h"

#include <google/protobuf/descriptor.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/jobfile/value_text.h"

namespace penstock {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::vector<std::string> Values(const FieldDescriptor& field) {
  if (field.type() == FieldDescriptor::TYPE_BOOL) return {"true", "false"};
  if (field.type() == FieldDescriptor::TYPE_ENUM) return EnumTexts(*field.enum_type());
  return {};
}

}  // namespace

std::vector<std::string> CompleteOverride(const std::string& typed) {
  const size_t equals = typed.find('=');
  const std::vector<std::string> path = absl::StrSplit(typed.substr(0, equals), '.');
  // The message that the last name stands in.
  const Descriptor* message = v1::JobSpec::descriptor();
  std::string prefix;
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    const FieldDescriptor* field = message->FindFieldByName(path[i]);
    if (field == nullptr || field->message_type() == nullptr || field->is_repeated()) return {};
    message = field->message_type();
    absl::StrAppend(&prefix, path[i], ".");
  }
  std::vector<std::string> found;
  const auto offer = [&](std::string text) {
    if (absl::StartsWith(text, typed)) found.push_back(std::move(text));
  };
  if (equals != std::string::npos) {
    const FieldDescriptor* field = message->FindFieldByName(path.back());
    if (field == nullptr) return {};
    for (const std::string& value : Values(*field)) offer(absl::StrCat(prefix, path.back(), "=", value));
    return found;
  }
  for (int i = 0; i < message->field_count(); ++i) {
    const FieldDescriptor& field = *message->field(i);
    const bool nested = field.message_type() != nullptr && !field.is_repeated();
    // A path to resume from is written as checkpoint.resume.
    if (field.full_name() == "penstock.v1.CheckpointSpec.resume_path") continue;
    offer(absl::StrCat(prefix, field.name(), nested ? "." : "="));
  }
  return found;
}

}  // namespace penstock
