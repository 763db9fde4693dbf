#include "worker/comm/nccl/testing/emulated_communicator.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "core/base/bfloat16.h"
#include "worker/cuda/testing/emulator/memory.h"
#include "worker/cuda/testing/emulator/streams.h"

namespace penstock::nccl_emulator {
namespace {

namespace device = ::penstock::cuda::emulator;

// What links are for; both ends name the sender's and the receiver's side.
constexpr uint64_t kSendLink = 0;
constexpr uint64_t kReceiveLink = 1;
constexpr uint64_t kCollectiveLink = 2;

// How long a call goes on in the background.
constexpr std::chrono::microseconds kBackground(200);

bool IsCollective(Sort sort) { return sort != Sort::kSend && sort != Sort::kReceive; }

uint32_t SignatureOf(const Call& call) {
  return static_cast<uint32_t>(call.sort) | static_cast<uint32_t>(call.type) << 8 |
         static_cast<uint32_t>(call.op) << 16 | static_cast<uint32_t>(call.peer) << 24;
}

// Whether rank `to` gets what all ranks' values add up to.
bool Gets(const Call& call, int to) { return call.sort != Sort::kReduce || to == call.peer; }

template <typename T, typename Get, typename Set>
void Add(const std::byte* part, std::byte* sum, size_t count, ncclRedOp_t op, Get get, Set set) {
  const T* const from = reinterpret_cast<const T*>(part);
  T* const to = reinterpret_cast<T*>(sum);
  for (size_t i = 0; i < count; ++i) {
    const auto a = get(to[i]);
    const auto b = get(from[i]);
    to[i] = set(op == ncclSum ? a + b : op == ncclProd ? a * b : op == ncclMax ? std::max(a, b) : std::min(a, b));
  }
}

void Reduce(const std::byte* part, std::byte* sum, size_t count, ncclDataType_t type, ncclRedOp_t op) {
  const auto same = [](auto value) { return value; };
  switch (type) {
    case ncclUint8:
      return Add<uint8_t>(part, sum, count, op, same, [](auto value) { return static_cast<uint8_t>(value); });
    case ncclInt32:
      return Add<int32_t>(part, sum, count, op, same, same);
    case ncclFloat64:
      return Add<double>(part, sum, count, op, same, same);
    case ncclBfloat16:
      return Add<Bfloat16>(
          part, sum, count, op, [](Bfloat16 value) { return ToFloat(value); },
          [](float value) { return ToBfloat16(value); });
    default:
      return Add<float>(part, sum, count, op, same, same);
  }
}

}  // namespace

void Die(const std::string& what) {
  std::fprintf(stderr, "the NCCL emulator: %s\n", what.c_str());
  std::abort();
}

size_t BytesOf(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    case ncclFloat64:
      return 8;
  }
  return 0;
}

EmulatedCommunicator::~EmulatedCommunicator() { Close(); }

std::string EmulatedCommunicator::Name() const {
  return "rank " + std::to_string(rank_) + " of " + std::to_string(size_);
}

void EmulatedCommunicator::Connect(uint16_t port) {
  wire_ = std::make_unique<Wire>(port, rank_, size_, [this](Frame frame) { OnFrame(std::move(frame)); });
}

ncclResult_t EmulatedCommunicator::state() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (error_ != ncclSuccess) return error_;
  return started_ && !busy_ ? ncclSuccess : ncclInProgress;
}

ncclResult_t EmulatedCommunicator::AwaitState() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return aborted_ || error_ != ncclSuccess || (started_ && !busy_); });
  return error_;
}

std::string EmulatedCommunicator::last_error() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_error_;
}

void EmulatedCommunicator::OnFrame(Frame frame) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) return;
    const FrameHeader& header = frame.header;
    if (header.kind == FrameKind::kStart) {
      started_ = true;
    } else if (header.kind == FrameKind::kGone) {
      // Kernels that wait for it go on waiting: an abort ends them.
      if (error_ == ncclSuccess && !silent_) {
        error_ = ncclRemoteError;
        last_error_ = Name() + ": the connection to " +
                      (header.from < 0 ? std::string("the others") : "rank " + std::to_string(header.from)) +
                      " was closed";
      }
    } else {
      frames_[{header.kind, header.from, header.number}] = std::move(frame);
    }
  }
  changed_.notify_all();
  device::Notify();
}

ncclResult_t EmulatedCommunicator::Refuse(ncclResult_t result, const std::string& why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  last_error_ = Name() + ": " + why;
  return result;
}

ncclResult_t EmulatedCommunicator::Check(const std::vector<Call>& calls) {
  if (const ncclResult_t now = state(); now != ncclSuccess) {
    return now != ncclInProgress ? now : Refuse(ncclInvalidUsage, "used while a call is in progress");
  }
  for (const Call& call : calls) {
    const size_t bytes = call.count * BytesOf(call.type);
    if (BytesOf(call.type) == 0) return Refuse(ncclInvalidArgument, "a type that isn't emulated");
    if (call.peer < 0 || call.peer >= size_) return Refuse(ncclInvalidArgument, "a peer or root outside the ranks");
    if (call.stream != calls.front().stream) return Refuse(ncclInvalidUsage, "a group in more than one stream");
    if (device::DeviceOfStream(call.stream) != device_) return Refuse(ncclInvalidUsage, "a stream of another device");
    for (const void* at : {call.from, static_cast<const void*>(call.to)}) {
      if (at == nullptr || bytes == 0) continue;
      if (device::DeviceOf(at) != device_ || !device::IsAllocated(at, bytes)) {
        return Refuse(ncclInvalidArgument, "a buffer that isn't memory of the device");
      }
    }
  }
  return ncclSuccess;
}

std::set<std::pair<int, uint64_t>> EmulatedCommunicator::NewLinks(const std::vector<Call>& calls) {
  std::set<std::pair<int, uint64_t>> links;
  for (const Call& call : calls) {
    if (call.sort == Sort::kSend) links.insert({call.peer, kSendLink});
    if (call.sort == Sort::kReceive) links.insert({call.peer, kReceiveLink});
    for (int i = 0; i < size_ && IsCollective(call.sort); ++i) links.insert({i, kCollectiveLink});
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(links, [this](const auto& link) { return link.first == rank_ || !links_.insert(link).second; });
  return links;
}

bool EmulatedCommunicator::AwaitLinks(const std::set<std::pair<int, uint64_t>>& links) {
  for (const auto& [peer, link] : links)
    wire_->Send({.kind = FrameKind::kConnect, .to = peer, .number = link}, nullptr);
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    return aborted_ || std::all_of(links.begin(), links.end(), [&](const auto& link) {
             const uint64_t other = link.second == kCollectiveLink ? link.second : 1 - link.second;
             return frames_.count({FrameKind::kConnect, link.first, other}) > 0;
           });
  });
  return !aborted_;
}

ncclResult_t EmulatedCommunicator::Give(std::vector<Call> calls) {
  if (const ncclResult_t result = Check(calls); result != ncclSuccess) return result;
  const auto links = NewLinks(calls);
  // They take memory, for which a device may wait until all that it was given is done.
  if (!links.empty() && device::WaitsForOthers(device_)) {
    Die(Name() + " connects to a peer while the device waits for others: that can be for ever");
  }
  if (links.empty() && device::Coin()) {
    Launch(calls);
    return ncclSuccess;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    busy_ = true;
  }
  if (launch_.joinable()) launch_.join();  // it has ended, or the communicator would be in use
  launch_ = std::thread([this, links, calls = std::move(calls)] {
    if (links.empty()) std::this_thread::sleep_for(kBackground);
    if (AwaitLinks(links)) Launch(calls);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      busy_ = false;
    }
    changed_.notify_all();
  });
  return ncclInProgress;
}

void EmulatedCommunicator::Launch(const std::vector<Call>& calls) {
  auto operation = std::make_shared<Operation>();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    operation->place = given_++;
    for (const Call& call : calls) {
      const uint64_t number = IsCollective(call.sort)    ? collectives_++
                              : call.sort == Sort::kSend ? sends_[call.peer]++
                                                         : receives_[call.peer]++;
      operation->parts.push_back({call, number});
    }
  }
  const cudaError_t error = device::EnqueuePoll(
      calls.front().stream, [self = shared_from_this(), operation] { return self->Progress(operation.get()); });
  if (error != cudaSuccess) Die("the stream of an operation has been destroyed");
}

bool EmulatedCommunicator::Progress(Operation* operation) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) return true;
    // Whatever the streams: a communicator's operations come one after the other.
    if (finished_ != operation->place) return false;
  }
  for (Part& part : operation->parts) {
    if (part.done) continue;
    if (part.call.sort == Sort::kSend) {
      ProgressSend(&part);
    } else if (part.call.sort == Sort::kReceive) {
      ProgressReceive(&part);
    } else {
      ProgressCollective(&part);
    }
  }
  if (!std::all_of(operation->parts.begin(), operation->parts.end(), [](const Part& part) { return part.done; })) {
    return false;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++finished_;
  }
  device::Notify();  // the next one may be in another stream
  return true;
}

bool EmulatedCommunicator::Take(FrameKind kind, int from, uint64_t number, Frame* frame) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = frames_.find({kind, from, number});
  if (found == frames_.end()) return false;
  *frame = std::move(found->second);
  frames_.erase(found);
  return true;
}

bool EmulatedCommunicator::Has(FrameKind kind, int from, uint64_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return frames_.count({kind, from, number}) > 0;
}

// The buffer is read when the receiver is there, and not before.
void EmulatedCommunicator::ProgressSend(Part* part) {
  const Call& call = part->call;
  const uint64_t bytes = call.count * BytesOf(call.type);
  Frame ready;
  if (!Take(FrameKind::kReady, call.peer, part->number, &ready)) return;
  if (ready.header.bytes != bytes) {
    Die(Name() + " sends " + std::to_string(bytes) + " bytes to rank " + std::to_string(call.peer) +
        ", which receives " + std::to_string(ready.header.bytes));
  }
  wire_->Send({.kind = FrameKind::kData, .to = call.peer, .number = part->number, .bytes = bytes, .body_bytes = bytes},
              device::Open(call.from));
  part->done = true;
}

void EmulatedCommunicator::ProgressReceive(Part* part) {
  const Call& call = part->call;
  const uint64_t bytes = call.count * BytesOf(call.type);
  if (!part->begun) {
    part->begun = true;
    std::memset(device::Open(call.to), device::kGarbage, bytes);
    wire_->Send({.kind = FrameKind::kReady, .to = call.peer, .number = part->number, .bytes = bytes}, nullptr);
  }
  Frame data;
  if (!Take(FrameKind::kData, call.peer, part->number, &data)) return;
  std::memcpy(device::Open(call.to), data.body.data(), bytes);
  part->done = true;
}

void EmulatedCommunicator::ProgressCollective(Part* part) {
  const Call& call = part->call;
  const uint64_t bytes = call.count * BytesOf(call.type);
  const bool takes = Gets(call, rank_);
  if (!part->begun) {
    part->begun = true;
    for (int to = 0; to < size_; ++to) {
      // Ranks that get no values learn what is called all the same, to compare.
      const bool values = Gets(call, to);
      if (to == rank_ && !values) continue;
      wire_->Send({.kind = FrameKind::kPart,
                   .to = to,
                   .signature = SignatureOf(call),
                   .number = part->number,
                   .bytes = bytes,
                   .body_bytes = values ? bytes : 0},
                  values ? device::Open(call.from) : nullptr);
    }
    if (takes && call.from != call.to) std::memset(device::Open(call.to), device::kGarbage, bytes);
  }
  std::map<int, Frame> parts;
  for (int from = 0; from < size_; ++from) {
    if (from == rank_ && !takes) continue;
    if (!Has(FrameKind::kPart, from, part->number)) return;
  }
  for (int from = 0; from < size_; ++from) {
    if (!Take(FrameKind::kPart, from, part->number, &parts[from])) continue;
    const FrameHeader& header = parts[from].header;
    if (header.signature != SignatureOf(call) || header.bytes != bytes) {
      Die(Name() + "'s collective isn't the one of rank " + std::to_string(from));
    }
  }
  if (takes) Combine(*part, &parts);
  part->done = true;
}

// In another order than the ranks': what relies on one shows.
void EmulatedCommunicator::Combine(const Part& part, std::map<int, Frame>* parts) {
  const Call& call = part.call;
  std::byte* const to = device::Open(call.to);
  bool first = true;
  for (int from = size_ - 1; from >= 0; --from) {
    const std::vector<std::byte>& body = (*parts)[from].body;
    if (first) {
      std::memcpy(to, body.data(), body.size());
    } else {
      Reduce(body.data(), to, call.count, call.type, call.op);
    }
    first = false;
  }
}

void EmulatedCommunicator::Abort() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    aborted_ = true;
  }
  changed_.notify_all();
  device::Notify();
}

void EmulatedCommunicator::Close() {
  if (launch_.joinable()) launch_.join();
  wire_.reset();
}

}  // namespace penstock::nccl_emulator
