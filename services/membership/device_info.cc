#include "services/membership/device_info.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace penstock {
namespace {

// Empty for what wasn't measured.
std::string Rate(double per_second) { return per_second > 0 ? absl::StrFormat("%.1f GB/s", per_second / 1e9) : ""; }
std::string Flops(double per_second) {
  if (per_second <= 0) return "";
  return per_second >= 1e12 ? absl::StrFormat("%.1f TFLOP/s", per_second / 1e12)
                            : absl::StrFormat("%.1f GFLOP/s", per_second / 1e9);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> DescribeDevice(const v1::DeviceInfo& info) {
  std::vector<std::pair<std::string, std::string>> rows = {
      {"device", info.name()},
      {"memory", absl::StrFormat("%.1f GiB", static_cast<double>(info.memory_bytes()) / (1 << 30))}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) rows.emplace_back(name, value);
  };
  add("card", info.pci_bus_id().empty() ? "" : absl::StrCat(info.pci_bus_id(), ", ", info.uuid()));
  add("driver", info.driver().empty() ? "" : absl::StrCat("CUDA ", info.driver()));
  add("CUDA", info.cuda());
  add("NCCL", info.nccl());
  add("products, fp32", Flops(info.fp32_flops_per_second()));
  add("products, bf16", Flops(info.bf16_flops_per_second()));
  add("memory bandwidth", Rate(info.memory_bytes_per_second()));
  add("host to device", Rate(info.host_to_device_bytes_per_second()));
  add("device to host", Rate(info.device_to_host_bytes_per_second()));
  add("network", info.network_interface());
  for (const std::string& remark : info.remarks()) add("note", remark);
  return rows;
}

nlohmann::ordered_json DeviceJson(const v1::DeviceInfo& info) {
  return {{"name", info.name()},
          {"memory_bytes", info.memory_bytes()},
          {"pci_bus_id", info.pci_bus_id()},
          {"uuid", info.uuid()},
          {"driver", info.driver()},
          {"cuda", info.cuda()},
          {"nccl", info.nccl()},
          {"fp32_flops_per_second", info.fp32_flops_per_second()},
          {"bf16_flops_per_second", info.bf16_flops_per_second()},
          {"memory_bytes_per_second", info.memory_bytes_per_second()},
          {"host_to_device_bytes_per_second", info.host_to_device_bytes_per_second()},
          {"device_to_host_bytes_per_second", info.device_to_host_bytes_per_second()},
          {"network_interface", info.network_interface()},
          {"remarks", std::vector<std::string>(info.remarks().begin(), info.remarks().end())}};
}

}  // namespace penstock
