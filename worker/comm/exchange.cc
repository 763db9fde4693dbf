// The collectives, built on point-to-point messages: the same bits on every backend, whatever the library beneath does.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/comm/communicator.h"
#include "worker/comm/group_parts.h"

namespace penstock {
namespace {

constexpr Tag kReduceScatterTag = kFirstCollectiveTag + 1;
constexpr Tag kAllGatherTag = kFirstCollectiveTag + 2;
constexpr Tag kBroadcastTag = kFirstCollectiveTag + 3;
constexpr Tag kBarrierTag = kFirstCollectiveTag + 4;

// Longest sum that two members add both.
constexpr int64_t kSwappedElementsMax = int64_t{256} << 10;

// Of a reduce-scatter: rounds whose messages are on their way at once.
constexpr size_t kRoundsUnderWay = 4;

using Transfers = std::vector<std::shared_ptr<Transfer>>;

absl::Status WaitAll(Transfers& transfers) {
  for (const std::shared_ptr<Transfer>& transfer : transfers) PENSTOCK_RETURN_IF_ERROR(transfer->Wait());
  transfers.clear();
  return absl::OkStatus();
}

// own[i] = others[0][i] + ... + own[i] + ... + others[n-1][i], from left to right, where own stands at `own_index`.
void AddInOrder(absl::Span<float> own, const std::vector<const float*>& others, int own_index) {
  const int count = static_cast<int>(others.size());
  const size_t size = own.size();
  if (own_index == 1) {
    for (size_t i = 0; i < size; ++i) own[i] = others[0][i] + own[i];
  } else if (own_index > 1) {
    // x0 + x1 + ... before own, gathered by blocks that stay in the first-level cache.
    constexpr size_t kBlock = 2048;
    float sum[kBlock];
    for (size_t begin = 0; begin < size; begin += kBlock) {
      const size_t length = std::min(kBlock, size - begin);
      std::memcpy(sum, others[0] + begin, length * sizeof(float));
      for (int k = 1; k < own_index; ++k) {
        for (size_t i = 0; i < length; ++i) sum[i] += others[k][begin + i];
      }
      for (size_t i = 0; i < length; ++i) own[begin + i] = sum[i] + own[begin + i];
    }
  }
  for (int k = own_index; k < count; ++k) {
    for (size_t i = 0; i < size; ++i) own[i] += others[k][i];
  }
}

}  // namespace

absl::Status Communicator::ReduceScatter(absl::Span<const int> group, absl::Span<float> data,
                                         absl::Span<const std::vector<Part>> parts) {
  PENSTOCK_ASSIGN_OR_RETURN(const int self, IndexInGroup(group, rank()));
  PENSTOCK_RETURN_IF_ERROR(CheckParts(group, static_cast<int64_t>(data.size()), parts));
  CountCollective();
  const int members = static_cast<int>(group.size());
  if (members == 1) return absl::OkStatus();

  // A few chunks from every other member: while one is added the next ones are under way. The chunk's size follows from
  // the group's size alone, so that all members cut alike.
  const int64_t others = members - 1;
  const int64_t chunk_elements = std::clamp<int64_t>(
      static_cast<int64_t>(kReduceScratchBytesMax / sizeof(float)) / (kRoundsUnderWay * others), 1, int64_t{256} << 10);
  std::vector<std::vector<Part>> chunks(members);
  size_t rounds = 0;
  for (int i = 0; i < members; ++i) {
    chunks[i] = CutParts(parts[i], chunk_elements);
    rounds = std::max(rounds, chunks[i].size());
  }
  const std::vector<Part>& own = chunks[self];
  if (!own.empty()) reduce_scratch_.resize(kRoundsUnderWay * others * chunk_elements);
  const auto scratch = [&](size_t round, int64_t other) {
    return reduce_scratch_.data() + (static_cast<int64_t>(round % kRoundsUnderWay) * others + other) * chunk_elements;
  };

  Transfers receives[kRoundsUnderWay];
  Transfers sends[kRoundsUnderWay];
  const auto start_round = [&](size_t round) -> absl::Status {
    for (int i = 0; i < members; ++i) {
      if (i == self) continue;
      if (round < own.size()) {
        const absl::Span<float> into(scratch(round, i < self ? i : i - 1), own[round].count);
        PENSTOCK_ASSIGN_OR_RETURN(auto recv, StartRecv(group[i], kReduceScatterTag, AsWritableBytes(into)));
        receives[round % kRoundsUnderWay].push_back(std::move(recv));
      }
      if (round < chunks[i].size()) {
        const absl::Span<const float> from = data.subspan(chunks[i][round].begin, chunks[i][round].count);
        PENSTOCK_ASSIGN_OR_RETURN(auto send, StartSend(group[i], kReduceScatterTag, AsBytes(from)));
        sends[round % kRoundsUnderWay].push_back(std::move(send));
      }
    }
    return absl::OkStatus();
  };

  for (size_t round = 0; round < std::min(rounds, kRoundsUnderWay - 1); ++round) {
    PENSTOCK_RETURN_IF_ERROR(start_round(round));
  }
  for (size_t round = 0; round < rounds; ++round) {
    const size_t next = round + kRoundsUnderWay - 1;
    if (next < rounds) PENSTOCK_RETURN_IF_ERROR(start_round(next));
    PENSTOCK_RETURN_IF_ERROR(WaitAll(receives[round % kRoundsUnderWay]));
    // Before the addition: with parts that all members share, it writes what was sent.
    PENSTOCK_RETURN_IF_ERROR(WaitAll(sends[round % kRoundsUnderWay]));
    if (round < own.size()) {
      std::vector<const float*> contributions;
      for (int64_t other = 0; other < others; ++other) contributions.push_back(scratch(round, other));
      AddInOrder(data.subspan(own[round].begin, own[round].count), contributions, self);
    }
  }
  return absl::OkStatus();
}

absl::Status Communicator::AllGather(absl::Span<const int> group, absl::Span<float> data,
                                     absl::Span<const std::vector<Part>> parts) {
  constexpr int64_t kBytes = sizeof(float);
  std::vector<std::vector<Part>> in_bytes;
  for (const std::vector<Part>& list : parts) {
    in_bytes.emplace_back();
    for (const Part& part : list) in_bytes.back().push_back({part.begin * kBytes, part.count * kBytes});
  }
  return AllGatherBytes(group, AsWritableBytes(data), in_bytes);
}

absl::Status Communicator::AllGatherBytes(absl::Span<const int> group, absl::Span<std::byte> data,
                                          absl::Span<const std::vector<Part>> parts) {
  PENSTOCK_ASSIGN_OR_RETURN(const int self, IndexInGroup(group, rank()));
  PENSTOCK_RETURN_IF_ERROR(CheckParts(group, static_cast<int64_t>(data.size()), parts));
  CountCollective();
  Transfers transfers;
  const int members = static_cast<int>(group.size());
  for (int i = 0; i < members; ++i) {
    if (i == self) continue;
    for (const Part& part : CutParts(parts[i], kMessageBytesMax)) {
      PENSTOCK_ASSIGN_OR_RETURN(auto recv, StartRecv(group[i], kAllGatherTag, data.subspan(part.begin, part.count)));
      transfers.push_back(std::move(recv));
    }
  }
  for (int i = 0; i < members; ++i) {
    if (i == self) continue;
    for (const Part& part : CutParts(parts[self], kMessageBytesMax)) {
      PENSTOCK_ASSIGN_OR_RETURN(auto send, StartSend(group[i], kAllGatherTag, data.subspan(part.begin, part.count)));
      transfers.push_back(std::move(send));
    }
  }
  return WaitAll(transfers);
}

absl::Status Communicator::AllReduce(absl::Span<const int> group, absl::Span<float> data) {
  const int64_t members = static_cast<int64_t>(group.size());
  const int64_t size = static_cast<int64_t>(data.size());
  // Two members swap everything and add it both: no more bytes than halves that go there and back, and one message in a
  // row instead of two. Long sums are better added by halves.
  if (members == 2 && size <= kSwappedElementsMax)
    return ReduceScatter(group, data, std::vector<std::vector<Part>>(2, {{0, size}}));
  std::vector<std::vector<Part>> parts(members);
  for (int64_t i = 0; i < members; ++i) {
    const int64_t begin = size * i / members;
    parts[i].push_back({begin, size * (i + 1) / members - begin});
  }
  PENSTOCK_RETURN_IF_ERROR(ReduceScatter(group, data, parts));
  return AllGather(group, data, parts);
}

absl::Status Communicator::Broadcast(absl::Span<const int> group, int root_index, absl::Span<std::byte> data) {
  PENSTOCK_ASSIGN_OR_RETURN(const int self, IndexInGroup(group, rank()));
  if (root_index < 0 || root_index >= static_cast<int>(group.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("root ", root_index, " is not an index of a group of ", group.size(), " ranks"));
  }
  CountCollective();
  Transfers transfers;
  for (size_t begin = 0; begin < data.size(); begin += kMessageBytesMax) {
    const absl::Span<std::byte> chunk = data.subspan(begin, kMessageBytesMax);
    if (self != root_index) {
      PENSTOCK_ASSIGN_OR_RETURN(auto recv, StartRecv(group[root_index], kBroadcastTag, chunk));
      transfers.push_back(std::move(recv));
      continue;
    }
    for (const int peer : group) {
      if (peer == rank()) continue;
      PENSTOCK_ASSIGN_OR_RETURN(auto send, StartSend(peer, kBroadcastTag, chunk));
      transfers.push_back(std::move(send));
    }
  }
  return WaitAll(transfers);
}

absl::Status Communicator::Barrier(absl::Span<const int> group) {
  PENSTOCK_ASSIGN_OR_RETURN(const int self, IndexInGroup(group, rank()));
  CountCollective();
  // Dissemination barrier (Hensgen, Finkel and Manber, 1988): in round r everybody signals the member 2^r further on.
  const int members = static_cast<int>(group.size());
  for (int distance = 1; distance < members; distance *= 2) {
    const int to = group[(self + distance) % members];
    const int from = group[(self - distance + members) % members];
    PENSTOCK_ASSIGN_OR_RETURN(auto recv, StartRecv(from, kBarrierTag, absl::MakeSpan(&barrier_in_, 1)));
    PENSTOCK_ASSIGN_OR_RETURN(auto send, StartSend(to, kBarrierTag, absl::MakeConstSpan(&barrier_out_, 1)));
    PENSTOCK_RETURN_IF_ERROR(recv->Wait());
    PENSTOCK_RETURN_IF_ERROR(send->Wait());
  }
  return absl::OkStatus();
}

}  // namespace penstock
