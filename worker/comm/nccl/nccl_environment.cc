#include "worker/comm/nccl/nccl_environment.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace penstock {
namespace {

// Of streams that a device has for its queues.
constexpr int kConnectionsMax = 32;
constexpr char kWhatToDo[] = ": unset it, or start all workers with --device_links=host";

// As both libraries read numbers.
long long NumberOf(const char* text) { return text == nullptr ? 0 : std::strtoll(text, nullptr, 0); }

}  // namespace

absl::Status CheckNcclEnvironment(int streams, absl::FunctionRef<const char*(const char*)> variable) {
  struct Switch {
    const char* name;
    const char* effect;
  };
  for (const auto& [name, effect] : {
           Switch{"CUDA_LAUNCH_BLOCKING", "has the host wait for each launch, also for a message's that comes later"},
           Switch{"NCCL_LAUNCH_ORDER_IMPLICIT", "has a communicator wait until another one's operation has begun"},
           Switch{"NCCL_COMM_BLOCKING", "has the host wait within NCCL, where no abort reaches it"},
       }) {
    if (NumberOf(variable(name)) == 0) continue;
    return absl::FailedPreconditionError(absl::StrCat(name, "=", variable(name), " ", effect, kWhatToDo));
  }
  const char* const connections = variable("CUDA_DEVICE_MAX_CONNECTIONS");
  const long long needed = streams < kConnectionsMax ? streams : kConnectionsMax;
  if (connections != nullptr && NumberOf(connections) < needed) {
    return absl::FailedPreconditionError(absl::StrCat("CUDA_DEVICE_MAX_CONNECTIONS=", connections,
                                                      " puts streams into the same queue, behind each other's waits; ",
                                                      needed, " are needed here", kWhatToDo));
  }
  return absl::OkStatus();
}

}  // namespace penstock
