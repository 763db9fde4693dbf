#include "worker/comm/nccl/testing/emulated_nccl.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "worker/comm/nccl/testing/emulated_communicator.h"
#include "worker/cuda/testing/emulated_library.h"
#include "worker/cuda/testing/emulator/streams.h"

// A program's handle.
struct ncclComm {
  std::shared_ptr<penstock::nccl_emulator::EmulatedCommunicator> rank;
  bool blocking = false;
  std::string last_error;
};

namespace {

using penstock::cuda::Address;
using penstock::nccl_emulator::Call;
using penstock::nccl_emulator::Die;
using penstock::nccl_emulator::EmulatedCommunicator;
using penstock::nccl_emulator::Sort;

constexpr char kMagic[] = "penstock's emulated NCCL";

struct Handles {
  std::mutex mutex;
  std::map<ncclComm_t, std::unique_ptr<ncclComm>> live;
};
Handles& TheHandles() {
  static Handles* const handles = new Handles;
  return *handles;
}

ncclComm* Use(ncclComm_t comm) {
  const std::lock_guard<std::mutex> lock(TheHandles().mutex);
  if (TheHandles().live.count(comm) == 0) Die("a communicator is used that there isn't, or that was aborted");
  return comm;
}

// What the calling thread has in its group.
struct Group {
  int depth = 0;
  std::vector<std::pair<ncclComm_t, Call>> calls;
  std::vector<std::unique_ptr<ncclComm>> aborted;
};
thread_local Group group;

// As the library frees device memory then, all that the device has must have ended.
void Free(std::vector<std::unique_ptr<ncclComm>> aborted) {
  for (const auto& comm : aborted) penstock::cuda::emulator::WaitForDevice(comm->rank->device());
  for (const auto& comm : aborted) comm->rank->Close();
}

ncclResult_t Worse(ncclResult_t a, ncclResult_t b) {
  if (a != ncclSuccess && a != ncclInProgress) return a;
  return b == ncclSuccess ? a : b;
}

ncclResult_t CloseGroup() {
  std::vector<std::pair<ncclComm_t, Call>> calls = std::exchange(group.calls, {});
  std::map<ncclComm_t, std::vector<Call>> by_communicator;
  for (auto& [comm, call] : calls) by_communicator[comm].push_back(call);
  ncclResult_t result = ncclSuccess;
  for (auto& [comm, own] : by_communicator) result = Worse(result, comm->rank->Give(std::move(own)));
  for (const auto& [comm, own] : by_communicator) {
    if (comm->blocking && result == ncclInProgress) result = comm->rank->AwaitState();
  }
  Free(std::exchange(group.aborted, {}));
  return result;
}

ncclResult_t Give(ncclComm_t comm, const Call& call) {
  group.calls.emplace_back(Use(comm), call);
  return group.depth > 0 ? ncclSuccess : CloseGroup();
}

const char* Name(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

bool LostSilently() {
  const char* const lost = std::getenv("PENSTOCK_EMULATED_NCCL_LOST");
  return lost != nullptr && std::strcmp(lost, "silent") == 0;
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) { return Name(result); }

const char* ncclGetLastError(ncclComm_t comm) {
  Use(comm)->last_error = comm->rank->last_error();
  return comm->last_error.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const uint16_t port = penstock::nccl_emulator::StartSwitch();
  if (port == 0) return ncclSystemError;
  std::memset(id->internal, 0, sizeof(id->internal));
  std::memcpy(id->internal, kMagic, sizeof(kMagic));
  std::memcpy(id->internal + sizeof(kMagic), &port, sizeof(port));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  const ncclConfig_t initial = NCCL_CONFIG_INITIALIZER;
  if (group.depth > 0) return ncclInvalidUsage;  // not emulated
  if (config->magic != initial.magic || config->size != initial.size) return ncclInvalidArgument;
  if (ranks < 1 || rank < 0 || rank >= ranks || std::memcmp(id.internal, kMagic, sizeof(kMagic)) != 0) {
    return ncclInvalidArgument;
  }
  if (config->minCTAs != NCCL_CONFIG_UNDEF_INT && config->maxCTAs != NCCL_CONFIG_UNDEF_INT &&
      (config->minCTAs < 1 || config->minCTAs > config->maxCTAs)) {
    return ncclInvalidArgument;
  }
  uint16_t port = 0;
  std::memcpy(&port, id.internal + sizeof(kMagic), sizeof(port));
  auto handle = std::make_unique<ncclComm>();
  handle->rank =
      std::make_shared<EmulatedCommunicator>(ranks, rank, penstock::cuda::emulator::CurrentDevice(), LostSilently());
  handle->blocking = config->blocking != 0;
  handle->rank->Connect(port);
  *comm = handle.get();
  {
    const std::lock_guard<std::mutex> lock(TheHandles().mutex);
    TheHandles().live[*comm] = std::move(handle);
  }
  return (*comm)->blocking ? (*comm)->rank->AwaitState() : ncclInProgress;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  Use(comm)->rank->Abort();
  {
    const std::lock_guard<std::mutex> lock(TheHandles().mutex);
    auto node = TheHandles().live.extract(comm);
    group.aborted.push_back(std::move(node.mapped()));
  }
  if (group.depth == 0) Free(std::exchange(group.aborted, {}));
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = Use(comm)->rank->state();
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ncclInvalidUsage;
  return --group.depth > 0 ? ncclSuccess : CloseGroup();
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Give(comm, {.sort = Sort::kSend,
                     .from = from,
                     .to = nullptr,
                     .count = count,
                     .type = type,
                     .op = ncclSum,
                     .peer = peer,
                     .stream = stream});
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return Give(comm, {.sort = Sort::kReceive,
                     .from = nullptr,
                     .to = to,
                     .count = count,
                     .type = type,
                     .op = ncclSum,
                     .peer = peer,
                     .stream = stream});
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return Give(comm, {.sort = Sort::kAllReduce,
                     .from = from,
                     .to = to,
                     .count = count,
                     .type = type,
                     .op = op,
                     .peer = 0,
                     .stream = stream});
}

ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return Give(comm, {.sort = Sort::kReduce,
                     .from = from,
                     .to = to,
                     .count = count,
                     .type = type,
                     .op = op,
                     .peer = root,
                     .stream = stream});
}

namespace {

const penstock::cuda::EmulatedLibrary library("libnccl.so.",
                                              {{"ncclGetVersion", Address(&ncclGetVersion)},
                                               {"ncclGetErrorString", Address(&ncclGetErrorString)},
                                               {"ncclGetLastError", Address(&ncclGetLastError)},
                                               {"ncclGetUniqueId", Address(&ncclGetUniqueId)},
                                               {"ncclCommInitRankConfig", Address(&ncclCommInitRankConfig)},
                                               {"ncclCommAbort", Address(&ncclCommAbort)},
                                               {"ncclCommGetAsyncError", Address(&ncclCommGetAsyncError)},
                                               {"ncclGroupStart", Address(&ncclGroupStart)},
                                               {"ncclGroupEnd", Address(&ncclGroupEnd)},
                                               {"ncclSend", Address(&ncclSend)},
                                               {"ncclRecv", Address(&ncclRecv)},
                                               {"ncclAllReduce", Address(&ncclAllReduce)},
                                               {"ncclReduce", Address(&ncclReduce)}});

}  // namespace
