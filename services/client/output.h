// What penstockctl prints: tables for people, JSON for programs. Pure functions.
//
// The JSON's field names are those of the proto, in snake_case and in a fixed order; numbers are numbers (protobuf's
// own printer writes 64-bit integers as strings); a value that isn't known is null.
#ifndef PENSTOCK_SERVICES_CLIENT_OUTPUT_H_
#define PENSTOCK_SERVICES_CLIENT_OUTPUT_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

using Json = nlohmann::ordered_json;

// "RUNNING", without the enum's prefix.
std::string JobStateName(v1::JobState state);

Json JobJson(const v1::JobStatus& job);
Json StepJson(const v1::StepRecord& record);
Json MemberJson(const v1::MemberStatus& member);
Json EventJson(const v1::Event& event);

// Columns as wide as their widest cell, two spaces apart; numbers aren't aligned to the right. Ends with a newline.
std::string FormatTable(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

// "1.234", with so many digits after the point; "-" for what isn't there.
std::string FormatNumber(double value, int digits);
std::string FormatOptional(bool present, double value, int digits);
// "1h02m", "3m20s", "45s".
std::string FormatSeconds(double seconds);

// One line about a running job: step, loss, validation loss, tokens/s, time left. At most `width` characters.
std::string ProgressLine(const v1::JobStatus& job, int width);

// Several lines about a job, for `job show`.
std::string DescribeJob(const v1::JobStatus& job);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_OUTPUT_H_
