// For tests of kernels by themselves, built for the device and for the emulator: arrays there, and skipping where there
// is no device.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_ON_DEVICE_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_ON_DEVICE_H_

#include <cuda_runtime_api.h>

#include <cstring>
#include <vector>

#include "gtest/gtest.h"

namespace penstock::cuda {

class KernelTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
      GTEST_SKIP() << cudaGetErrorString(error);
    }
  }
};

template <typename T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : size_(values.size()) {
    EXPECT_EQ(cudaMalloc(&memory_, size_ * sizeof(T) + 1), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(memory_, values.data(), size_ * sizeof(T), cudaMemcpyDefault, nullptr), cudaSuccess);
  }
  ~OnDevice() { cudaFree(memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* data() const { return static_cast<T*>(memory_); }
  std::vector<T> Read() const {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), memory_, size_ * sizeof(T), cudaMemcpyDefault, nullptr), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
    return values;
  }

 private:
  const size_t size_;
  void* memory_ = nullptr;
};

template <typename T>
testing::AssertionResult SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << a.size() << " and " << b.size() << " elements";
  size_t different = 0;
  size_t first = 0;
  for (size_t i = a.size(); i-- > 0;) {
    if (std::memcmp(&a[i], &b[i], sizeof(T)) == 0) continue;
    ++different;
    first = i;
  }
  if (different == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << different << " of " << a.size() << " elements differ, the first at " << first
                                     << ": " << testing::PrintToString(a[first]) << " and "
                                     << testing::PrintToString(b[first]);
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_ON_DEVICE_H_
