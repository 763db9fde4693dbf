// What keeps a job from going on from a checkpoint.

#include <google/protobuf/descriptor.h>

#include "absl/strings/str_cat.h"
#include "services/checkpoint/manifest.h"
#include "services/jobfile/value_text.h"

namespace penstock {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

}  // namespace

std::vector<v1::JobViolation> CheckResume(const Manifest& manifest, const v1::JobSpec& spec) {
  std::vector<v1::JobViolation> violations;
  const auto check = [&](const std::string& section, const Message& before, const Message& now, const std::string& name,
                         const std::string& why) {
    const FieldDescriptor& field = *before.GetDescriptor()->FindFieldByName(name);
    const std::string then = ScalarText(before, field);
    const std::string is = ScalarText(now, field);
    if (then == is) return;
    v1::JobViolation& violation = violations.emplace_back();
    violation.set_field(absl::StrCat(section, ".", name));
    violation.set_message(absl::StrCat("is ", is, ", but the checkpoint of step ", manifest.step, " has ", then, why,
                                       "; use ", then, ", or start anew with checkpoint.resume: never"));
  };
  // Every field of the model shapes the state or what it computes, but for where the initial weights came from.
  const google::protobuf::Descriptor& model = *v1::ModelSpec::descriptor();
  for (int i = 0; i < model.field_count(); ++i) {
    if (model.field(i)->name() == "init_std" || model.field(i)->name() == "from") continue;
    check("model", manifest.spec.model(), spec.model(), model.field(i)->name(), "");
  }
  // Nothing was trained yet: there are no moments and no place in the data.
  if (manifest.step == 0) return violations;
  check("optimizer", manifest.spec.optimizer(), spec.optimizer(), "type", ", whose state differs");
  const std::string order = ", and with another one samples would be left out or repeated";
  check("training", manifest.spec.training(), spec.training(), "seed", order);
  check("training", manifest.spec.training(), spec.training(), "global_batch_size", order);
  return violations;
}

}  // namespace penstock
