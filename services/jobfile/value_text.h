// How a job file writes the values of the schema.
//
// Thread-safe: free functions without state.
#ifndef PENSTOCK_SERVICES_JOBFILE_VALUE_TEXT_H_
#define PENSTOCK_SERVICES_JOBFILE_VALUE_TEXT_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>
#include <vector>

namespace penstock {

// SCHEDULE_1F1B is "1f1b": without the enum's name, in lower case.
std::string EnumText(const google::protobuf::EnumValueDescriptor& value);
// All that can be written, in the schema's order; *_UNSPECIFIED can't.
std::vector<std::string> EnumTexts(const google::protobuf::EnumDescriptor& type);
// The value named `text`, or nullptr.
const google::protobuf::EnumValueDescriptor* FindEnumText(const google::protobuf::EnumDescriptor& type,
                                                          const std::string& text);

// The shortest text that reads back to the same double.
std::string DoubleText(double value);
// A scalar field's value, strings as they are.
std::string ScalarText(const google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_JOBFILE_VALUE_TEXT_H_
