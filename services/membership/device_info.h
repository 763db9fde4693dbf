// A worker's device in words and in JSON. Pure.
#ifndef PENSTOCK_SERVICES_MEMBERSHIP_DEVICE_INFO_H_
#define PENSTOCK_SERVICES_MEMBERSHIP_DEVICE_INFO_H_

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// ("memory bandwidth", "21.3 GB/s") and so on: what is known, in an order for people.
std::vector<std::pair<std::string, std::string>> DescribeDevice(const v1::DeviceInfo& info);

// One object with the message's field names.
nlohmann::ordered_json DeviceJson(const v1::DeviceInfo& info);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_MEMBERSHIP_DEVICE_INFO_H_
