#include "worker/ops/testing/backends.h"

namespace penstock {
namespace {

// A device that has met a fault says so in every call; the test that is under way has failed, with its words.
void Expect(const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; }

}  // namespace

void BackendTest::SetUp() {
  auto backend = GetParam().create();
  if (GetParam().may_be_absent && absl::IsFailedPrecondition(backend.status())) {
    GTEST_SKIP() << backend.status().message();
  }
  ASSERT_TRUE(backend.ok()) << backend.status();
  backend_ = *std::move(backend);
}

OpContext BackendTest::ContextFor(const Operation& operation) {
  workspace_ = backend_->Allocate(operation.workspace_bytes()).value();
  return {.workspace = workspace_->data(), .workspace_bytes = workspace_->size()};
}

DeviceFloats::DeviceFloats(Backend* backend, const std::vector<float>& values)
    : backend_(backend),
      size_(static_cast<int64_t>(values.size())),
      memory_(backend->Allocate(size_ * static_cast<int64_t>(sizeof(float))).value()) {
  Expect(backend_->Copy({}, values.data(), memory_->data(), memory_->size()));
}

DeviceFloats::DeviceFloats(Backend* backend, int64_t size, float fill)
    : DeviceFloats(backend, std::vector<float>(static_cast<size_t>(size), fill)) {}

std::vector<float> DeviceFloats::Read() const {
  std::vector<float> values(static_cast<size_t>(size_));
  Expect(backend_->Copy({}, memory_->data(), values.data(), memory_->size()));
  Expect(backend_->Synchronize({}));
  return values;
}

DeviceBfloats::DeviceBfloats(Backend* backend, const std::vector<float>& values)
    : backend_(backend), memory_(backend->Allocate(static_cast<int64_t>(values.size() * sizeof(Bfloat16))).value()) {
  std::vector<Bfloat16> narrow(values.size());
  ToBfloat16(values, narrow);
  Expect(backend_->Copy({}, narrow.data(), memory_->data(), memory_->size()));
}

DeviceBfloats::DeviceBfloats(Backend* backend, int64_t size, float fill)
    : DeviceBfloats(backend, std::vector<float>(static_cast<size_t>(size), fill)) {}

std::vector<float> DeviceBfloats::Read() const {
  std::vector<Bfloat16> narrow(static_cast<size_t>(memory_->size()) / sizeof(Bfloat16));
  Expect(backend_->Copy({}, memory_->data(), narrow.data(), memory_->size()));
  Expect(backend_->Synchronize({}));
  std::vector<float> values(narrow.size());
  ToFloat(narrow, values);
  return values;
}

DeviceTokens::DeviceTokens(Backend* backend, const std::vector<int32_t>& tokens)
    : memory_(backend->Allocate(static_cast<int64_t>(tokens.size() * sizeof(int32_t))).value()) {
  Expect(backend->Copy({}, tokens.data(), memory_->data(), memory_->size()));
}

}  // namespace penstock
