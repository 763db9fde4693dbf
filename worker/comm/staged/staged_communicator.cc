#include "worker/comm/staged/staged_communicator.h"

#include <map>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/comm/group_parts.h"

namespace penstock {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

absl::Span<float> FloatsOf(absl::Span<std::byte> bytes) {
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

}  // namespace

// Pinned memory is dear to get, so buffers are kept for messages of the same size. Of the rank's thread.
class StagedCommunicator::Buffers {
 public:
  explicit Buffers(Backend* backend) : backend_(backend) {}

  absl::StatusOr<std::unique_ptr<DeviceMemory>> Take(size_t bytes) {
    std::vector<std::unique_ptr<DeviceMemory>>& idle = idle_[bytes];
    if (idle.empty()) return backend_->AllocateHost(static_cast<int64_t>(bytes));
    std::unique_ptr<DeviceMemory> buffer = std::move(idle.back());
    idle.pop_back();
    return buffer;
  }
  void Give(std::unique_ptr<DeviceMemory> buffer) {
    idle_[static_cast<size_t>(buffer->size())].push_back(std::move(buffer));
  }
  // What a message may still be read from or written to.
  void Keep(std::unique_ptr<DeviceMemory> buffer) { kept_.push_back(std::move(buffer)); }

 private:
  Backend* const backend_;
  std::map<size_t, std::vector<std::unique_ptr<DeviceMemory>>> idle_;
  std::vector<std::unique_ptr<DeviceMemory>> kept_;
};

class StagedCommunicator::StagedTransfer : public Transfer {
 public:
  // `into`: where a receive's message goes on the device; empty for a send.
  StagedTransfer(std::shared_ptr<Buffers> buffers, Backend* backend, std::unique_ptr<DeviceMemory> buffer,
                 absl::Span<std::byte> into)
      : buffers_(std::move(buffers)), backend_(backend), buffer_(std::move(buffer)), into_(into) {}
  ~StagedTransfer() override {
    if (buffer_ != nullptr) buffers_->Keep(std::move(buffer_));
  }

  std::byte* data() const { return buffer_->data(); }
  void Start(std::shared_ptr<Transfer> transfer) { transfer_ = std::move(transfer); }

  absl::Status Wait() override {
    PENSTOCK_RETURN_IF_ERROR(transfer_->Wait());
    if (!into_.empty()) {
      PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, buffer_->data(), into_.data(), static_cast<int64_t>(into_.size())));
      // The buffer is written to again as soon as it is given back.
      PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
    }
    buffers_->Give(std::move(buffer_));
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<Buffers> buffers_;
  Backend* const backend_;
  std::unique_ptr<DeviceMemory> buffer_;
  const absl::Span<std::byte> into_;
  std::shared_ptr<Transfer> transfer_;
};

StagedCommunicator::StagedCommunicator(std::unique_ptr<Communicator> host, Backend* backend)
    : backend_(backend), buffers_(std::make_shared<Buffers>(backend)), host_(std::move(host)) {}

StagedCommunicator::~StagedCommunicator() = default;

absl::StatusOr<std::unique_ptr<DeviceMemory>> StagedCommunicator::Fetch(absl::Span<const std::byte> data) {
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> buffer, buffers_->Take(data.size()));
  PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, data.data(), buffer->data(), static_cast<int64_t>(data.size())));
  PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
  return buffer;
}

absl::StatusOr<std::shared_ptr<Transfer>> StagedCommunicator::StartSend(int peer, Tag tag,
                                                                        absl::Span<const std::byte> data) {
  PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> buffer, Fetch(data));
  auto staged = std::make_shared<StagedTransfer>(buffers_, backend_, std::move(buffer), absl::Span<std::byte>());
  PENSTOCK_ASSIGN_OR_RETURN(auto transfer, host_->StartSend(peer, tag, {staged->data(), data.size()}));
  staged->Start(std::move(transfer));
  return std::shared_ptr<Transfer>(std::move(staged));
}

absl::StatusOr<std::shared_ptr<Transfer>> StagedCommunicator::StartRecv(int peer, Tag tag, absl::Span<std::byte> data) {
  PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> buffer, buffers_->Take(data.size()));
  auto staged = std::make_shared<StagedTransfer>(buffers_, backend_, std::move(buffer), data);
  PENSTOCK_ASSIGN_OR_RETURN(auto transfer, host_->StartRecv(peer, tag, {staged->data(), data.size()}));
  staged->Start(std::move(transfer));
  return std::shared_ptr<Transfer>(std::move(staged));
}

absl::Status StagedCommunicator::OnCopy(absl::Span<std::byte> data, absl::Span<const Part> back,
                                        absl::FunctionRef<absl::Status(absl::Span<std::byte>)> run) {
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<DeviceMemory> copy, Fetch(data));
  if (const absl::Status status = run({copy->data(), data.size()}); !status.ok()) {
    buffers_->Keep(std::move(copy));
    return status;
  }
  for (const Part& part : back) {
    PENSTOCK_RETURN_IF_ERROR(backend_->Copy({}, copy->data() + part.begin, data.data() + part.begin, part.count));
  }
  PENSTOCK_RETURN_IF_ERROR(backend_->Synchronize({}));
  buffers_->Give(std::move(copy));
  return absl::OkStatus();
}

absl::Status StagedCommunicator::ReduceScatter(absl::Span<const int> group, absl::Span<float> data,
                                               absl::Span<const std::vector<Part>> parts) {
  PENSTOCK_ASSIGN_OR_RETURN(const int self, IndexInGroup(group, rank()));
  PENSTOCK_RETURN_IF_ERROR(CheckParts(group, static_cast<int64_t>(data.size()), parts));
  if (group.size() == 1) return absl::OkStatus();
  std::vector<Part> own;
  for (const Part& part : parts[static_cast<size_t>(self)]) {
    own.push_back({part.begin * kFloatBytes, part.count * kFloatBytes});
  }
  return OnCopy(AsWritableBytes(data), own,
                [&](absl::Span<std::byte> copy) { return host_->ReduceScatter(group, FloatsOf(copy), parts); });
}

absl::Status StagedCommunicator::AllGatherBytes(absl::Span<const int> group, absl::Span<std::byte> data,
                                                absl::Span<const std::vector<Part>> parts) {
  if (group.size() == 1) return absl::OkStatus();
  const Part whole = {0, static_cast<int64_t>(data.size())};
  return OnCopy(data, {&whole, 1},
                [&](absl::Span<std::byte> copy) { return host_->AllGatherBytes(group, copy, parts); });
}

absl::Status StagedCommunicator::AllReduce(absl::Span<const int> group, absl::Span<float> data) {
  if (group.size() == 1) return absl::OkStatus();
  const Part whole = {0, static_cast<int64_t>(data.size()) * kFloatBytes};
  return OnCopy(AsWritableBytes(data), {&whole, 1},
                [&](absl::Span<std::byte> copy) { return host_->AllReduce(group, FloatsOf(copy)); });
}

absl::Status StagedCommunicator::Broadcast(absl::Span<const int> group, int root_index, absl::Span<std::byte> data) {
  if (group.size() == 1) return absl::OkStatus();
  const Part whole = {0, static_cast<int64_t>(data.size())};
  return OnCopy(data, {&whole, 1},
                [&](absl::Span<std::byte> copy) { return host_->Broadcast(group, root_index, copy); });
}

}  // namespace penstock
