// One rank of an emulated NCCL communicator: its state, and its operations on the emulator's streams.
//
// Thread-safety: the host's calls come from one thread at a time, as NCCL wants it; operations run on the device's
// thread, frames come from the wire's.
#ifndef PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_COMMUNICATOR_H_
#define PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_COMMUNICATOR_H_

#include <nccl.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "worker/comm/nccl/testing/emulated_wire.h"

namespace penstock::nccl_emulator {

// Ends the process: what NCCL leaves undefined.
[[noreturn]] void Die(const std::string& what);

enum class Sort : uint32_t { kSend, kReceive, kAllReduce, kReduce };

// What a program asks for.
struct Call {
  Sort sort = Sort::kSend;
  const void* from = nullptr;
  void* to = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  // or the root
  cudaStream_t stream = nullptr;
};

size_t BytesOf(ncclDataType_t type);  // 0 for a type that isn't emulated

class EmulatedCommunicator : public std::enable_shared_from_this<EmulatedCommunicator> {
 public:
  // `silent`: it never notices that others have gone.
  EmulatedCommunicator(int size, int rank, int device, bool silent)
      : size_(size), rank_(rank), device_(device), silent_(silent) {}
  ~EmulatedCommunicator();

  // Begins to connect to the others.
  void Connect(uint16_t port);

  // ncclSuccess, ncclInProgress while a call is under way, or the error that came.
  ncclResult_t state();
  std::string last_error();

  // The calls of a group that are this communicator's, in their order: puts them into their stream, at once or some
  // time later. ncclInProgress says later.
  ncclResult_t Give(std::vector<Call> calls);
  // Until nothing is under way; for communicators that block.
  ncclResult_t AwaitState();

  // Operations end where they are, and so do those that come; no frame is answered any more.
  void Abort();
  // After Abort: ends the threads.
  void Close();

  int device() const { return device_; }

 private:
  // A part of an operation, by its own progress.
  struct Part {
    Call call;
    uint64_t number = 0;
    bool begun = false;
    bool done = false;
  };
  struct Operation {
    uint64_t place = 0;  // among the communicator's operations
    std::vector<Part> parts;
  };
  using Key = std::tuple<FrameKind, int, uint64_t>;  // kind, from, number

  std::string Name() const;
  ncclResult_t Refuse(ncclResult_t result, const std::string& why);
  ncclResult_t Check(const std::vector<Call>& calls);
  void OnFrame(Frame frame);
  // Connections that the calls need and that there aren't yet, as NCCL connects two ranks at their first message.
  std::set<std::pair<int, uint64_t>> NewLinks(const std::vector<Call>& calls);
  bool AwaitLinks(const std::set<std::pair<int, uint64_t>>& links);
  void Launch(const std::vector<Call>& calls);

  // On the device's thread.
  bool Progress(Operation* operation);
  void ProgressSend(Part* part);
  void ProgressReceive(Part* part);
  void ProgressCollective(Part* part);
  void Combine(const Part& part, std::map<int, Frame>* parts);
  // Moves the frame out, if it has come.
  bool Take(FrameKind kind, int from, uint64_t number, Frame* frame);
  bool Has(FrameKind kind, int from, uint64_t number);

  const int size_;
  const int rank_;
  const int device_;
  const bool silent_;
  std::unique_ptr<Wire> wire_;
  std::thread launch_;  // of the host's last call, if it goes on in the background

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool started_ = false;
  bool busy_ = false;
  bool aborted_ = false;
  ncclResult_t error_ = ncclSuccess;
  std::string last_error_;
  std::map<Key, Frame> frames_;
  std::set<std::pair<int, uint64_t>> links_;
  std::map<int, uint64_t> sends_;
  std::map<int, uint64_t> receives_;
  uint64_t collectives_ = 0;
  uint64_t given_ = 0;
  uint64_t finished_ = 0;
};

}  // namespace penstock::nccl_emulator

#endif  // PENSTOCK_WORKER_COMM_NCCL_TESTING_EMULATED_COMMUNICATOR_H_
