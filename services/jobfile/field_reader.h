// Reads a YAML tree into a message, field by field, by reflection. Goes on after an error, so that all of them are
// said.
//
// Not synchronised; one for each job file.
#ifndef PENSTOCK_SERVICES_JOBFILE_FIELD_READER_H_
#define PENSTOCK_SERVICES_JOBFILE_FIELD_READER_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <functional>
#include <string>
#include <vector>

#include "services/jobfile/job_file.h"
#include "services/jobfile/yaml_tree.h"

namespace penstock {

// One thing that is wrong.
struct FieldError {
  FieldPosition position;
  // "model.heads"; empty for the file as a whole.
  std::string field;
  // What is wrong and what would be right.
  std::string message;
};

class FieldReader {
 public:
  // Positions are noted in `file`, which must outlive the reader.
  explicit FieldReader(JobFile* file) : file_(file) {}

  // The whole file.
  void ReadJob(const YamlNodePtr& root);
  // "model.heads=8".
  void ReadOverride(const std::string& text);

  const std::vector<FieldError>& errors() const { return errors_; }

 private:
  using Field = google::protobuf::FieldDescriptor;
  using Message = google::protobuf::Message;

  void ReadMap(const YamlNode& node, const std::string& path, Message* message);
  void ReadEntry(const YamlNode& value, const std::string& path, const Field& field, Message* message);
  void ReadValue(const YamlNode& value, const std::string& path, const Field& field, Message* message);
  void ReadUnsigned(const YamlNode& value, const std::string& path, const Field& field, Message* message);
  void ReadDouble(const YamlNode& value, const std::string& path, const Field& field, Message* message);
  void ReadBool(const YamlNode& value, const std::string& path, const Field& field, Message* message);
  void ReadEnum(const YamlNode& value, const std::string& path, const Field& field, Message* message);
  void ReadString(const YamlNode& value, const std::string& path, const Field& field, Message* message);
  // checkpoint.resume: auto, never or a path, in two fields.
  void ReadResume(const YamlNode& value, const std::string& path, Message* message);

  FieldPosition PositionOf(int line) const;
  void Fail(int line, const std::string& field, const std::string& message);
  void UnknownKey(int line, const std::string& path, const std::string& key, const google::protobuf::Descriptor& type);

  JobFile* file_;
  // Of the override that is being read; empty in the file.
  std::string override_path_;
  std::vector<FieldError> errors_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_JOBFILE_FIELD_READER_H_
