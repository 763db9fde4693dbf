// What keeps a job from going on from a checkpoint.

#include <google/protobuf/descriptor.h>

#include "absl/strings/str_cat.h"
#include "services/checkpoint/manifest.h"

namespace penstock {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A field's value as the job file writes it.
std::string ValueText(const Message& message, const FieldDescriptor& field) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(reflection.GetUInt32(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrCat(reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection.GetEnum(message, &field)->name();
    default:
      return reflection.GetString(message, &field);
  }
}

}  // namespace

std::vector<v1::JobViolation> CheckResume(const Manifest& manifest, const v1::JobSpec& spec) {
  std::vector<v1::JobViolation> violations;
  const auto check = [&](const std::string& section, const Message& before, const Message& now,
                         const std::string& name, const std::string& why) {
    const FieldDescriptor& field = *before.GetDescriptor()->FindFieldByName(name);
    const std::string then = ValueText(before, field);
    const std::string is = ValueText(now, field);
    if (then == is) return;
    v1::JobViolation& violation = violations.emplace_back();
    violation.set_field(absl::StrCat(section, ".", name));
    violation.set_message(absl::StrCat("is ", is, ", but the checkpoint of step ", manifest.step, " has ", then, why,
                                       "; use ", then, ", or start anew with checkpoint.resume: never"));
  };
  // Every field of the model shapes the state or what it computes, but for the spread of the initial weights.
  const google::protobuf::Descriptor& model = *v1::ModelSpec::descriptor();
  for (int i = 0; i < model.field_count(); ++i) {
    if (model.field(i)->name() == "init_std") continue;
    check("model", manifest.spec.model(), spec.model(), model.field(i)->name(), "");
  }
  check("optimizer", manifest.spec.optimizer(), spec.optimizer(), "type", ", whose state differs");
  const std::string order = ", and with another one samples would be left out or repeated";
  check("training", manifest.spec.training(), spec.training(), "seed", order);
  check("training", manifest.spec.training(), spec.training(), "global_batch_size", order);
  return violations;
}

}  // namespace penstock
