#include "worker/comm/nccl/nccl_communicator.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/plan/nccl_blocks.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "worker/comm/group_parts.h"
#include "worker/comm/nccl/nccl_channel.h"
#include "worker/comm/nccl/nccl_collectives.h"
#include "worker/comm/nccl/nccl_environment.h"
#include "worker/comm/nccl/nccl_library.h"
#include "worker/comm/nccl/nccl_order.h"
#include "worker/cuda/status.h"

namespace penstock {
namespace {

// Communicators that connect at the same time. Every rank goes through its own in the order of their keys, so that for
// the least one that isn't connected yet all members are there.
constexpr size_t kConnectingMax = 1;
constexpr size_t kWarmUpBytes = 4;
// A rank's, beside its communicators': what computes, and copies beside it.
constexpr int kOwnStreams = 2;

struct CudaFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceBuffer = std::unique_ptr<void, CudaFree>;

// What one of the topology's communicators is about.
struct Member {
  std::string key;
  bool lane = false;
  NcclLane at;             // of a lane
  std::vector<int> ranks;  // of both
  int index = 0;           // of this rank in `ranks`
};

class NcclTransfer : public Transfer {
 public:
  NcclTransfer(std::shared_ptr<NcclOrder> order, std::shared_ptr<NcclMark> end)
      : order_(std::move(order)), end_(std::move(end)) {}
  absl::Status Wait() override { return order_->Block(end_); }

 private:
  const std::shared_ptr<NcclOrder> order_;
  const std::shared_ptr<NcclMark> end_;
};

class NcclCommunicator : public Communicator {
 public:
  struct Parts {
    std::shared_ptr<NcclEpoch> epoch;
    std::shared_ptr<NcclOrder> order;
    // Before what uses it.
    DeviceBuffer scratch;
    std::map<NcclLane, std::unique_ptr<NcclChannel>> lanes;
    std::map<std::vector<int>, std::unique_ptr<NcclGroup>> groups;
  };

  NcclCommunicator(const NcclConnectorOptions& options, Parts parts)
      : rank_(options.rank),
        size_(options.size),
        device_(options.device),
        compute_stream_(static_cast<cudaStream_t>(options.compute_stream)),
        fast_sums_(options.fast_sums),
        parts_(std::move(parts)) {}

  ~NcclCommunicator() override {
    cudaSetDevice(device_);
    if (parts_.epoch->status().ok()) {
      if (const absl::Status status = parts_.order->Flush(kDrainTimeout); !status.ok()) {
        LogWarning("NCCL: messages of rank {} are lost: {}", rank_, status);
      }
    }
    parts_.epoch->Fail(absl::CancelledError("the communicator was destroyed")).IgnoreError();
    parts_.order->Forget();
    std::vector<NcclChannel*> channels;
    for (const auto& [at, lane] : parts_.lanes) channels.push_back(lane.get());
    for (const auto& [ranks, group] : parts_.groups) channels.push_back(&group->channel());
    NcclChannel::AbortAll(channels, compute_stream_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  absl::StatusOr<std::shared_ptr<Transfer>> StartSend(int peer, Tag tag, absl::Span<const std::byte> data) override {
    PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
    CountSent(data.size());
    return Start({rank_, peer, ChannelOf(tag)}, [&](NcclChannel& lane) {
      return lane.nccl().Send(data.data(), data.size(), ncclUint8, /*peer=*/1, lane.comm(), lane.stream());
    });
  }

  absl::StatusOr<std::shared_ptr<Transfer>> StartRecv(int peer, Tag tag, absl::Span<std::byte> data) override {
    PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
    CountReceived(data.size());
    return Start({peer, rank_, ChannelOf(tag)}, [&](NcclChannel& lane) {
      return lane.nccl().Recv(data.data(), data.size(), ncclUint8, /*peer=*/0, lane.comm(), lane.stream());
    });
  }

  // The communicators are aborted when this object is destroyed, as the interface says.
  void Abort(absl::Status reason) override { parts_.epoch->Fail(std::move(reason)).IgnoreError(); }

  HostWait host_wait() override {
    return [order = parts_.order](absl::FunctionRef<absl::StatusOr<bool>()> done) { return order->WaitOnHost(done); };
  }

  absl::Status ReduceScatter(absl::Span<const int> group, absl::Span<float> data,
                             absl::Span<const std::vector<Part>> parts) override {
    PENSTOCK_RETURN_IF_ERROR(CheckParts(group, static_cast<int64_t>(data.size()), parts));
    return Collective(group, [&](NcclGroup& members) {
      CountGroup(group, parts, sizeof(float), /*gather=*/false);
      return fast_sums_ ? members.ReduceScatterFast(data, parts) : members.ReduceScatterInOrder(data, parts);
    });
  }

  // AllGather is Communicator's, in bytes.
  absl::Status AllGatherBytes(absl::Span<const int> group, absl::Span<std::byte> data,
                              absl::Span<const std::vector<Part>> parts) override {
    PENSTOCK_RETURN_IF_ERROR(CheckParts(group, static_cast<int64_t>(data.size()), parts));
    return Collective(group, [&](NcclGroup& members) {
      CountGroup(group, parts, 1, /*gather=*/true);
      return members.AllGather(data, parts);
    });
  }

  absl::Status AllReduce(absl::Span<const int> group, absl::Span<float> data) override {
    if (!fast_sums_) return Communicator::AllReduce(group, data);
    return Collective(group, [&](NcclGroup& members) {
      CountSent(data.size() * sizeof(float));
      CountReceived(data.size() * sizeof(float));
      return members.AllReduceFast(data);
    });
  }

  absl::Status Broadcast(absl::Span<const int> group, int root_index, absl::Span<std::byte> data) override {
    if (root_index < 0 || root_index >= static_cast<int>(group.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("root ", root_index, " is not an index of a group of ", group.size(), " ranks"));
    }
    return Collective(group, [&](NcclGroup& members) {
      const bool root = group[root_index] == rank_;
      root ? CountSent(data.size() * (group.size() - 1)) : CountReceived(data.size());
      return members.Broadcast(root_index, data);
    });
  }

  absl::Status Barrier(absl::Span<const int> group) override {
    return Collective(group, [](NcclGroup& members) { return members.Barrier(); });
  }

  // A message of some bytes through every lane, the sender's and the receiver's side in the order of the lanes, then
  // through every group, in their order: NCCL connects two ranks at their first message, and allocates memory for that.
  // Later ones then start without waiting for the peer, and an allocation doesn't wait for what waits for a peer.
  absl::Status WarmUp(absl::Time deadline) {
    for (auto& [at, lane] : parts_.lanes) {
      if (Clock::Real()->Monotonic() >= deadline) return absl::DeadlineExceededError("connecting took too long");
      PENSTOCK_ASSIGN_OR_RETURN(
          const std::shared_ptr<NcclMark> end, Give(at, [&](NcclChannel& channel) {
            void* const memory = parts_.scratch.get();
            return at.from == rank_
                       ? channel.nccl().Send(memory, kWarmUpBytes, ncclUint8, 1, channel.comm(), channel.stream())
                       : channel.nccl().Recv(memory, kWarmUpBytes, ncclUint8, 0, channel.comm(), channel.stream());
          }));
      PENSTOCK_RETURN_IF_ERROR(parts_.order->Await(end));
    }
    for (auto& [ranks, group] : parts_.groups) PENSTOCK_RETURN_IF_ERROR(group->WarmUp(fast_sums_));
    return absl::OkStatus();
  }

 private:
  absl::Status Enter() {
    PENSTOCK_RETURN_IF_ERROR(parts_.epoch->status());
    return cuda::ToStatus(cudaSetDevice(device_), absl::StrCat("cuda:", device_));
  }

  absl::StatusOr<std::shared_ptr<NcclMark>> Give(const NcclLane& at,
                                                 absl::FunctionRef<ncclResult_t(NcclChannel&)> call) {
    const auto found = parts_.lanes.find(at);
    if (found == parts_.lanes.end()) {
      return absl::InvalidArgumentError(absl::StrCat("there is no lane from rank ", at.from, " to rank ", at.to,
                                                     " for channel ", at.channel, ": the topology doesn't have it"));
    }
    PENSTOCK_RETURN_IF_ERROR(Enter());
    NcclChannel& lane = *found->second;
    return parts_.order->Run(lane, /*receive=*/at.to == rank_,
                             [&] { return lane.Enqueue([&] { return call(lane); }); });
  }

  absl::StatusOr<std::shared_ptr<Transfer>> Start(const NcclLane& at,
                                                  absl::FunctionRef<ncclResult_t(NcclChannel&)> call) {
    PENSTOCK_ASSIGN_OR_RETURN(std::shared_ptr<NcclMark> end, Give(at, call));
    return std::shared_ptr<Transfer>(std::make_shared<NcclTransfer>(parts_.order, std::move(end)));
  }

  absl::Status Collective(absl::Span<const int> group, absl::FunctionRef<absl::Status(NcclGroup&)> run) {
    PENSTOCK_RETURN_IF_ERROR(IndexInGroup(group, rank_).status());
    CountCollective();
    if (group.size() == 1) return parts_.epoch->status();
    const auto found = parts_.groups.find(std::vector<int>(group.begin(), group.end()));
    if (found == parts_.groups.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no group of ranks ", absl::StrJoin(group, ", "), ": the topology doesn't have it"));
    }
    PENSTOCK_RETURN_IF_ERROR(Enter());
    return run(*found->second);
  }

  void CountGroup(absl::Span<const int> group, absl::Span<const std::vector<Part>> parts, size_t element_bytes,
                  bool gather) {
    uint64_t own = 0;
    uint64_t others = 0;
    for (size_t i = 0; i < group.size(); ++i) {
      for (const Part& part : parts[i])
        (group[i] == rank_ ? own : others) += static_cast<uint64_t>(part.count) * element_bytes;
    }
    const uint64_t peers = group.size() - 1;
    CountSent(gather ? own * peers : others);
    CountReceived(gather ? others : own * peers);
  }

  const int rank_;
  const int size_;
  const int device_;
  const cudaStream_t compute_stream_;
  const bool fast_sums_;
  Parts parts_;
};

class NcclConnector : public Connector {
 public:
  explicit NcclConnector(NcclConnectorOptions options)
      : options_(std::move(options)), epoch_(std::make_shared<NcclEpoch>(options_.names, options_.wait_timeout)) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Connect() override {
    absl::StatusOr<std::unique_ptr<NcclCommunicator>> communicator = Make();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      connected_ = true;
      // What an abort interrupted has no better reason.
      if (!aborted_.ok()) return aborted_;
    }
    if (!communicator.ok()) return communicator.status();
    return std::unique_ptr<Communicator>(*std::move(communicator));
  }

  void Abort(absl::Status reason) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (connected_) return;
      if (aborted_.ok()) aborted_ = reason;
    }
    options_.rendezvous->Cancel();
    epoch_->Fail(std::move(reason)).IgnoreError();
  }

 private:
  absl::StatusOr<std::unique_ptr<NcclCommunicator>> Make() {
    const absl::Time deadline = Clock::Real()->Monotonic() + options_.connect_timeout;
    PENSTOCK_RETURN_IF_ERROR(cuda::ToStatus(cudaSetDevice(options_.device), absl::StrCat("cuda:", options_.device)));
    PENSTOCK_ASSIGN_OR_RETURN(const NcclLibrary* const nccl, NcclLibrary::Get());
    PENSTOCK_ASSIGN_OR_RETURN(const std::vector<Member> members, Members());
    PENSTOCK_RETURN_IF_ERROR(CheckNcclEnvironment(static_cast<int>(members.size()) + kOwnStreams,
                                                  [](const char* name) { return std::getenv(name); }));
    NcclCommunicator::Parts parts;
    parts.epoch = epoch_;
    parts.order = std::make_shared<NcclOrder>(epoch_, static_cast<cudaStream_t>(options_.compute_stream));
    void* scratch = nullptr;
    PENSTOCK_RETURN_IF_ERROR(cuda::ToStatus(cudaMalloc(&scratch, kReduceScratchBytesMax), "scratch for sums"));
    parts.scratch.reset(scratch);
    PENSTOCK_RETURN_IF_ERROR(cuda::ToStatus(cudaMemset(scratch, 0, kWarmUpBytes), "scratch for sums"));
    PENSTOCK_ASSIGN_OR_RETURN(const std::vector<ncclUniqueId> ids, ExchangeIds(*nccl, members, deadline));
    PENSTOCK_RETURN_IF_ERROR(ConnectAll(nccl, members, ids, deadline, &parts));
    auto communicator = std::make_unique<NcclCommunicator>(options_, std::move(parts));
    PENSTOCK_RETURN_IF_ERROR(communicator->WarmUp(deadline));
    return communicator;
  }

  // In the order of their keys, which all ranks share.
  absl::StatusOr<std::vector<Member>> Members() const {
    std::vector<Member> members;
    for (const NcclLane& lane : options_.topology.lanes) {
      members.push_back({.key = NcclKey(lane), .lane = true, .at = lane, .ranks = {lane.from, lane.to}, .index = 0});
    }
    for (const std::vector<int>& group : options_.topology.groups) {
      if (group.size() > 1)
        members.push_back({.key = NcclKey(group), .lane = false, .at = {}, .ranks = group, .index = 0});
    }
    for (Member& member : members) {
      const auto self = std::find(member.ranks.begin(), member.ranks.end(), options_.rank);
      if (self == member.ranks.end() || (member.lane && member.at.from == member.at.to)) {
        return absl::InvalidArgumentError(absl::StrCat(member.key, " isn't of rank ", options_.rank));
      }
      member.index = static_cast<int>(self - member.ranks.begin());
    }
    std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.key < b.key; });
    return members;
  }

  // A communicator's first rank makes its id.
  absl::StatusOr<std::vector<ncclUniqueId>> ExchangeIds(const NcclLibrary& nccl, const std::vector<Member>& members,
                                                        absl::Time deadline) {
    std::vector<std::string> keys;
    for (const Member& member : members) {
      keys.push_back(member.key);
      if (member.index != 0) continue;
      ncclUniqueId id;
      PENSTOCK_RETURN_IF_ERROR(nccl.ToStatus(nccl.GetUniqueId(&id), nullptr, "an id for NCCL"));
      PENSTOCK_RETURN_IF_ERROR(options_.rendezvous->Set(member.key, std::string(id.internal, sizeof(id.internal)),
                                                        deadline - Clock::Real()->Monotonic()));
    }
    std::vector<ncclUniqueId> ids;
    if (keys.empty()) return ids;
    PENSTOCK_ASSIGN_OR_RETURN(const std::vector<std::string> values,
                              options_.rendezvous->Get(keys, deadline - Clock::Real()->Monotonic()));
    for (const std::string& value : values) {
      ncclUniqueId id;
      if (value.size() != sizeof(id.internal)) return absl::DataLossError("a peer published a damaged id for NCCL");
      std::memcpy(id.internal, value.data(), sizeof(id.internal));
      ids.push_back(id);
    }
    return ids;
  }

  absl::Status ConnectAll(const NcclLibrary* nccl, const std::vector<Member>& members,
                          const std::vector<ncclUniqueId>& ids, absl::Time deadline, NcclCommunicator::Parts* parts) {
    std::vector<std::unique_ptr<NcclChannel>> channels(members.size());
    size_t begun = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      for (; begun < members.size() && begun < i + kConnectingMax; ++begun) {
        const Member& member = members[begun];
        PENSTOCK_ASSIGN_OR_RETURN(
            channels[begun],
            NcclChannel::Begin({.nccl = nccl,
                                .epoch = epoch_,
                                .key = member.key,
                                .id = ids[begun],
                                .size = static_cast<int>(member.ranks.size()),
                                .index = member.index,
                                .peer = member.ranks.size() == 2 ? member.ranks[1 - member.index] : -1,
                                .blocks_max = member.lane ? kNcclLaneBlocksMax : kNcclGroupBlocksMax}));
      }
      PENSTOCK_RETURN_IF_ERROR(channels[i]->Finish(deadline));
    }
    for (size_t i = 0; i < members.size(); ++i) {
      const Member& member = members[i];
      if (member.lane) {
        parts->lanes[member.at] = std::move(channels[i]);
      } else {
        parts->groups[member.ranks] = std::make_unique<NcclGroup>(std::move(channels[i]), parts->order.get(),
                                                                  static_cast<int>(member.ranks.size()), member.index,
                                                                  static_cast<float*>(parts->scratch.get()));
      }
    }
    return absl::OkStatus();
  }

  const NcclConnectorOptions options_;
  const std::shared_ptr<NcclEpoch> epoch_;
  std::mutex mutex_;
  // Guarded by mutex_.
  absl::Status aborted_;
  bool connected_ = false;
};

}  // namespace

absl::StatusOr<std::string> NcclVersion() {
  PENSTOCK_ASSIGN_OR_RETURN(const NcclLibrary* const nccl, NcclLibrary::Get());
  return NcclLibrary::Name(nccl->version);
}

std::unique_ptr<Connector> MakeNcclConnector(NcclConnectorOptions options) {
  return std::make_unique<NcclConnector>(std::move(options));
}

}  // namespace penstock
