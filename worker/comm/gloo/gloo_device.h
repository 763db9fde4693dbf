// The address and event loop that a process's Gloo connections use, shared by all epochs. Thread-safe.
//
// Whatever touches a connection runs on the loop's thread (RunInLoop). Gloo would let other threads send and receive,
// but its loop doesn't wait for the lock of a connection that they hold: it asks the socket again and again until it
// gets it. With as many threads as cores the holder isn't even running then, and a message takes milliseconds.
#ifndef PENSTOCK_WORKER_COMM_GLOO_GLOO_DEVICE_H_
#define PENSTOCK_WORKER_COMM_GLOO_GLOO_DEVICE_H_

#include <functional>
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
  ~GlooDevice();

  const std::shared_ptr<gloo::transport::Device>& device() const { return device_; }

  // Runs `task`, which must not block or throw, on the loop's thread, in the order of the calls. Returns at once.
  void RunInLoop(std::function<void()> task);
  // Returns when everything given to RunInLoop before has run. Not from the loop's thread.
  void AwaitLoop();

 private:
  class TaskQueue;
  GlooDevice(std::shared_ptr<gloo::transport::Device> device, std::unique_ptr<TaskQueue> tasks);

  const std::shared_ptr<gloo::transport::Device> device_;
  const std::unique_ptr<TaskQueue> tasks_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_GLOO_GLOO_DEVICE_H_
