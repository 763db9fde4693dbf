// The backends that the operations' tests run on. A new device is one more library with an AllBackends of its own.
#ifndef PENSTOCK_WORKER_OPS_TESTING_BACKENDS_H_
#define PENSTOCK_WORKER_OPS_TESTING_BACKENDS_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/bfloat16.h"
#include "gtest/gtest.h"
#include "worker/ops/backend.h"

namespace penstock {

struct TestBackend {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Backend>>()> create;
  // Whether a machine without the device (FAILED_PRECONDITION) skips the tests, with the reason.
  bool may_be_absent = false;
};

// Those that this binary was linked with: cpu_backends has the CPU on 1, 2 and 3 threads; ops/cuda/testing has others.
std::vector<TestBackend> AllBackends();

inline std::ostream& operator<<(std::ostream& out, const TestBackend& backend) { return out << backend.name; }
inline std::string BackendName(const testing::TestParamInfo<TestBackend>& info) { return info.param.name; }

// A fixture whose parameter is a backend.
class BackendTest : public testing::TestWithParam<TestBackend> {
 protected:
  void SetUp() override;

  // An operation's context with the workspace that it asks for.
  OpContext ContextFor(const Operation& operation);

  std::unique_ptr<Backend> backend_;

 private:
  std::unique_ptr<DeviceMemory> workspace_;
};

// Floats on the backend's device.
class DeviceFloats {
 public:
  DeviceFloats(Backend* backend, const std::vector<float>& values);
  // `size` times `fill`: for outputs a NaN shows what wasn't written.
  DeviceFloats(Backend* backend, int64_t size, float fill);

  float* data() const { return reinterpret_cast<float*>(memory_->data()); }
  std::vector<float> Read() const;

 private:
  Backend* const backend_;
  const int64_t size_;
  std::unique_ptr<DeviceMemory> memory_;
};

// The same in bf16 there: values are rounded on the way.
class DeviceBfloats {
 public:
  DeviceBfloats(Backend* backend, const std::vector<float>& values);
  DeviceBfloats(Backend* backend, int64_t size, float fill);

  void* data() const { return memory_->data(); }
  std::vector<float> Read() const;

 private:
  Backend* backend_;
  std::unique_ptr<DeviceMemory> memory_;
};

// Any structs, zeroed.
template <typename T>
class DeviceStructs {
 public:
  DeviceStructs(Backend* backend, int64_t count)
      : backend_(backend), memory_(backend->Allocate(count * static_cast<int64_t>(sizeof(T))).value()) {}
  T* data() const { return reinterpret_cast<T*>(memory_->data()); }
  std::vector<T> Read() const {
    std::vector<T> values(static_cast<size_t>(memory_->size()) / sizeof(T));
    if (!backend_->Copy({}, memory_->data(), values.data(), memory_->size()).ok() || !backend_->Synchronize({}).ok()) {
      ADD_FAILURE() << "the device's memory can't be read";
    }
    return values;
  }

 private:
  Backend* const backend_;
  std::unique_ptr<DeviceMemory> memory_;
};

// The same for tokens.
class DeviceTokens {
 public:
  DeviceTokens(Backend* backend, const std::vector<int32_t>& tokens);
  const int32_t* data() const { return reinterpret_cast<const int32_t*>(memory_->data()); }

 private:
  std::unique_ptr<DeviceMemory> memory_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_TESTING_BACKENDS_H_
