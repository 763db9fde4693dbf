#include "services/jobfile/field_reader.h"

#include <algorithm>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/jobfile/suggest.h"

namespace penstock {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Long texts are cut in errors.
constexpr size_t kShownMax = 60;

// Fields that a job file doesn't write by their own name: `resume: PATH` fills it.
bool IsHidden(const FieldDescriptor& field) { return field.full_name() == "penstock.v1.CheckpointSpec.resume_path"; }

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) {
    if (!IsHidden(*type.field(i))) names.push_back(type.field(i)->name());
  }
  return names;
}

// The paths, from the job on, of all fields named `name`.
void FindPaths(const Descriptor& type, const std::string& prefix, const std::string& name,
               std::vector<std::string>* paths) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string path = prefix.empty() ? field.name() : absl::StrCat(prefix, ".", field.name());
    if (field.name() == name && !IsHidden(field)) paths->push_back(path);
    if (field.message_type() != nullptr) FindPaths(*field.message_type(), path, name, paths);
  }
}

std::string Shown(const std::string& text) {
  return absl::StrCat(absl::Utf8SafeCHexEscape(text.substr(0, kShownMax)), text.size() > kShownMax ? "..." : "");
}

std::string KindText(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "has no value";
    case YamlNode::Kind::kScalar:
      return absl::StrCat("is ", node.quoted ? "\"" : "", Shown(node.text), node.quoted ? "\"" : "");
    case YamlNode::Kind::kSequence:
      return "is a list";
    case YamlNode::Kind::kMap:
      return "is a map";
  }
  return "";
}

}  // namespace

FieldPosition FieldReader::PositionOf(int line) const {
  return override_path_.empty() ? FieldPosition{line, ""} : FieldPosition{0, override_path_};
}

void FieldReader::Fail(int line, const std::string& field, const std::string& message) {
  errors_.push_back({PositionOf(line), field, message});
}

void FieldReader::ReadJob(const YamlNodePtr& root) {
  if (root->kind != YamlNode::Kind::kMap) {
    Fail(root->line, "",
         absl::StrCat(root->kind == YamlNode::Kind::kNull ? "is empty" : KindText(*root), "; a job is a map with ",
                      absl::StrJoin(FieldNames(*v1::JobSpec::descriptor()), ", ")));
    return;
  }
  ReadMap(*root, "", &file_->spec);
}

void FieldReader::ReadOverride(const std::string& text) {
  const size_t equals = text.find('=');
  override_path_ = text.substr(0, equals);
  if (equals == std::string::npos || equals == 0) {
    Fail(0, "", "isn't of the form FIELD=VALUE; write for example --set training.steps=100");
    return;
  }
  if (std::count(override_path_.begin(), override_path_.end(), '.') > kYamlDepthMax) {
    override_path_ = Shown(override_path_);
    Fail(0, override_path_, "there is no such field");
    return;
  }
  const YamlDocument document = ParseYaml(std::string_view(text).substr(equals + 1));
  if (document.root == nullptr) {
    Fail(0, override_path_, document.error.message);
    return;
  }
  // "a.b.c=v" is the map {a: {b: {c: v}}}.
  YamlNodePtr node = document.root;
  std::string rest = override_path_;
  while (true) {
    const size_t dot = rest.rfind('.');
    auto key = std::make_shared<YamlNode>();
    key->kind = YamlNode::Kind::kScalar;
    key->text = dot == std::string::npos ? rest : rest.substr(dot + 1);
    auto map = std::make_shared<YamlNode>();
    map->kind = YamlNode::Kind::kMap;
    map->entries.emplace_back(std::move(key), std::move(node));
    node = std::move(map);
    if (dot == std::string::npos) break;
    rest.resize(dot);
  }
  ReadMap(*node, "", &file_->spec);
}

void FieldReader::ReadMap(const YamlNode& node, const std::string& path, Message* message) {
  const Descriptor& type = *message->GetDescriptor();
  std::map<std::string, int> lines;
  for (const auto& [key, value] : node.entries) {
    if (key->kind != YamlNode::Kind::kScalar) {
      Fail(key->line, path, "has a key that isn't a name");
      continue;
    }
    const std::string field_path = path.empty() ? key->text : absl::StrCat(path, ".", key->text);
    const FieldDescriptor* field = type.FindFieldByName(key->text);
    if (field == nullptr || IsHidden(*field)) {
      UnknownKey(key->line, field_path, key->text, type);
      continue;
    }
    const auto [first, is_new] = lines.emplace(key->text, key->line);
    if (!is_new) {
      Fail(key->line, field_path, absl::StrCat("comes twice, first on line ", first->second, "; keep one of them"));
      continue;
    }
    // An override's sections stay where they were written: what is missing in them is missing there.
    if (field_path.size() < override_path_.size()) {
      file_->positions.try_emplace(field_path, PositionOf(key->line));
    } else {
      file_->positions[field_path] = PositionOf(key->line);
    }
    ReadEntry(*value, field_path, *field, message);
  }
}

void FieldReader::UnknownKey(int line, const std::string& path, const std::string& key, const Descriptor& type) {
  const std::string shown = Shown(path);
  if (key == "<<") return Fail(line, shown, "merge keys aren't read; write the fields out");
  if (path == "checkpoint.resume_path") {
    return Fail(line, shown, "isn't written by itself; write the path as checkpoint.resume");
  }
  const std::vector<std::string> names = FieldNames(type);
  if (const std::string nearest = NearestName(key, names); !nearest.empty()) {
    return Fail(line, shown, absl::StrCat("there is no such field; did you mean `", nearest, "`?"));
  }
  // Right name, wrong section.
  std::vector<std::string> elsewhere;
  FindPaths(*v1::JobSpec::descriptor(), "", key, &elsewhere);
  if (!elsewhere.empty()) {
    return Fail(line, shown,
                absl::StrCat("there is no such field here; did you mean `", absl::StrJoin(elsewhere, "` or `"), "`?"));
  }
  Fail(line, shown, absl::StrCat("there is no such field; the fields here are ", absl::StrJoin(names, ", ")));
}

void FieldReader::ReadEntry(const YamlNode& value, const std::string& path, const Field& field, Message* message) {
  if (path == "checkpoint.resume") return ReadResume(value, path, message);
  if (field.cpp_type() != Field::CPPTYPE_MESSAGE) return ReadValue(value, path, field, message);
  if (path == "parallel" && value.kind == YamlNode::Kind::kScalar && value.text == "auto") {
    // Also over degrees that the file gives, when it is an override.
    v1::ParallelSpec* const parallel = file_->spec.mutable_parallel();
    parallel->set_plan(v1::ParallelSpec::PLAN_AUTO);
    parallel->clear_pipeline();
    parallel->clear_data();
    parallel->clear_tensor();
    parallel->clear_schedule();
    return;
  }
  if (value.kind != YamlNode::Kind::kMap) {
    return Fail(value.line, path,
                absl::StrCat(KindText(value), "; a map is expected, with ",
                             absl::StrJoin(FieldNames(*field.message_type()), ", ")));
  }
  ReadMap(value, path, message->GetReflection()->MutableMessage(message, &field));
}

}  // namespace penstock
