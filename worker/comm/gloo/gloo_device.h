// The address and event loop that a process's Gloo connections use. Immutable after construction, shared by all epochs.
#ifndef PENSTOCK_WORKER_COMM_GLOO_GLOO_DEVICE_H_
#define PENSTOCK_WORKER_COMM_GLOO_GLOO_DEVICE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace gloo::transport {
class Device;
}  // namespace gloo::transport

namespace penstock {

class GlooDevice {
 public:
  // `host` is this machine's name or address as its peers reach it. INVALID_ARGUMENT when it isn't one of this
  // machine's. From then on the process ignores SIGPIPE.
  static absl::StatusOr<std::shared_ptr<GlooDevice>> Create(const std::string& host);

  const std::shared_ptr<gloo::transport::Device>& device() const { return device_; }

 private:
  explicit GlooDevice(std::shared_ptr<gloo::transport::Device> device) : device_(std::move(device)) {}

  const std::shared_ptr<gloo::transport::Device> device_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_GLOO_GLOO_DEVICE_H_
