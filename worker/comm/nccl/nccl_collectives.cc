#include "worker/comm/nccl/nccl_collectives.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/comm/group_parts.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/kernels/ordered_sum.h"

namespace penstock {
namespace {

// Sums of these sizes: NCCL has other algorithms, with connections of their own, for small ones than for large ones.
constexpr size_t kWarmUpBytesMin = 1 << 10;
constexpr size_t kWarmUpFactor = 8;

// Gives calls to NCCL until one fails.
class Calls {
 public:
  void Add(ncclResult_t result) {
    if (result_ == ncclSuccess || result_ == ncclInProgress) result_ = result;
  }
  bool ok() const { return result_ == ncclSuccess || result_ == ncclInProgress; }
  ncclResult_t result() const { return result_; }

 private:
  ncclResult_t result_ = ncclSuccess;
};

}  // namespace

absl::Status NcclGroup::Run(absl::FunctionRef<absl::Status()> give) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<NcclMark> end, order_->Run(*channel_, /*receive=*/false, give));
  return order_->Block(end);
}

absl::Status NcclGroup::Give(absl::FunctionRef<ncclResult_t()> calls) {
  return Run([&] { return channel_->Enqueue(calls); });
}

absl::Status NcclGroup::WarmUp(bool fast) {
  PENSTOCK_RETURN_IF_ERROR(Barrier());
  // One way has come to its end before the next one is connected.
  const auto finish = [this](const absl::Status& given) -> absl::Status {
    PENSTOCK_RETURN_IF_ERROR(given);
    PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<NcclMark> end, order_->MarkEnd(*channel_));
    return order_->Await(end);
  };
  for (size_t bytes = kWarmUpBytesMin; fast && bytes <= kReduceScratchBytesMax; bytes *= kWarmUpFactor) {
    const Part all = {0, static_cast<int64_t>(bytes / sizeof(float))};
    const absl::Span<float> values = {scratch_, bytes / sizeof(float)};
    std::vector<std::vector<Part>> parts(members_);
    parts[0] = {all};
    PENSTOCK_RETURN_IF_ERROR(finish(ReduceScatterFast(values, parts)));
    PENSTOCK_RETURN_IF_ERROR(finish(AllReduceFast(values)));
  }
  return absl::OkStatus();
}

absl::Status NcclGroup::ReduceScatterInOrder(absl::Span<float> data, absl::Span<const std::vector<Part>> parts) {
  const int64_t others = members_ - 1;
  // From the group's size alone, so that all members cut alike.
  const int64_t chunk_elements =
      std::max<int64_t>(1, static_cast<int64_t>(kReduceScratchBytesMax / sizeof(float)) / others);
  std::vector<std::vector<Part>> chunks(members_);
  size_t rounds = 0;
  for (int i = 0; i < members_; ++i) {
    chunks[i] = CutParts(parts[i], chunk_elements);
    rounds = std::max(rounds, chunks[i].size());
  }
  const std::vector<Part>& own = chunks[self_];
  // The stream orders the rounds: a chunk is added before the next one is received into the scratch.
  const auto run_round = [&](size_t round) -> absl::Status {
    PENSTOCK_RETURN_IF_ERROR(channel_->Enqueue([&] {
      Calls calls;
      for (int i = 0; i < members_ && calls.ok(); ++i) {
        if (i == self_) continue;
        if (round < own.size()) {
          calls.Add(channel_->nccl().Recv(scratch_ + (i < self_ ? i : i - 1) * chunk_elements, own[round].count,
                                          ncclFloat32, i, channel_->comm(), channel_->stream()));
        }
        if (round < chunks[i].size() && calls.ok()) {
          calls.Add(channel_->nccl().Send(data.data() + chunks[i][round].begin, chunks[i][round].count, ncclFloat32, i,
                                          channel_->comm(), channel_->stream()));
        }
      }
      return calls.result();
    }));
    if (round >= own.size()) return absl::OkStatus();
    return cuda::ToStatus(cuda::AddInOrder(data.data() + own[round].begin, own[round].count, scratch_, chunk_elements,
                                           static_cast<int>(others), self_, channel_->stream()),
                          "adding a group's gradients");
  };
  return Run([&]() -> absl::Status {
    std::shared_ptr<NcclMark> earlier;
    for (size_t round = 0; round < rounds; ++round) {
      PENSTOCK_RETURN_IF_ERROR(run_round(round));
      if ((round + 1) % kRoundsAheadMax != 0) continue;
      if (earlier != nullptr) PENSTOCK_RETURN_IF_ERROR(order_->Await(earlier));
      PENSTOCK_ASSIGN_OR_RETURN(earlier, order_->MarkEnd(*channel_));
    }
    return absl::OkStatus();
  });
}

absl::Status NcclGroup::ReduceScatterFast(absl::Span<float> data, absl::Span<const std::vector<Part>> parts) {
  return Give([&] {
    Calls calls;
    for (int root = 0; root < members_; ++root) {
      for (const Part& part : parts[root]) {
        if (part.count == 0 || !calls.ok()) continue;
        // In place: the receive buffer counts at the root alone.
        float* const at = data.data() + part.begin;
        calls.Add(channel_->nccl().Reduce(at, at, part.count, ncclFloat32, ncclSum, root, channel_->comm(),
                                          channel_->stream()));
      }
    }
    return calls.result();
  });
}

absl::Status NcclGroup::AllGather(absl::Span<std::byte> data, absl::Span<const std::vector<Part>> parts) {
  return Give([&] {
    Calls calls;
    for (int i = 0; i < members_; ++i) {
      if (i == self_) continue;
      for (const Part& part : parts[i]) {
        if (part.count == 0 || !calls.ok()) continue;
        calls.Add(channel_->nccl().Recv(data.data() + part.begin, part.count, ncclUint8, i, channel_->comm(),
                                        channel_->stream()));
      }
      for (const Part& part : parts[self_]) {
        if (part.count == 0 || !calls.ok()) continue;
        calls.Add(channel_->nccl().Send(data.data() + part.begin, part.count, ncclUint8, i, channel_->comm(),
                                        channel_->stream()));
      }
    }
    return calls.result();
  });
}

absl::Status NcclGroup::AllReduceFast(absl::Span<float> data) {
  if (data.empty()) return absl::OkStatus();
  return Give([&] {
    return channel_->nccl().AllReduce(data.data(), data.data(), data.size(), ncclFloat32, ncclSum, channel_->comm(),
                                      channel_->stream());
  });
}

// By messages, which need no connections beyond those that the group has: it is for what is small.
absl::Status NcclGroup::Broadcast(int root, absl::Span<std::byte> data) {
  if (data.empty()) return absl::OkStatus();
  return Give([&] {
    Calls calls;
    if (self_ != root) {
      calls.Add(channel_->nccl().Recv(data.data(), data.size(), ncclUint8, root, channel_->comm(), channel_->stream()));
      return calls.result();
    }
    for (int i = 0; i < members_ && calls.ok(); ++i) {
      if (i == root) continue;
      calls.Add(channel_->nccl().Send(data.data(), data.size(), ncclUint8, i, channel_->comm(), channel_->stream()));
    }
    return calls.result();
  });
}

// Of the hosts: each returns when all have come. A message for each pair, both ways.
absl::Status NcclGroup::Barrier() {
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<NcclMark> end, order_->Run(*channel_, /*receive=*/false, [&] {
    return channel_->Enqueue([&] {
      Calls calls;
      for (int i = 0; i < members_ && calls.ok(); ++i) {
        if (i == self_) continue;
        calls.Add(channel_->nccl().Recv(scratch_ + 1 + i, 1, ncclFloat32, i, channel_->comm(), channel_->stream()));
        if (!calls.ok()) break;
        calls.Add(channel_->nccl().Send(scratch_, 1, ncclFloat32, i, channel_->comm(), channel_->stream()));
      }
      return calls.result();
    });
  }));
  return order_->Await(end);
}

}  // namespace penstock
