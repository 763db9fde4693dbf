// NCCL's functions, from the library that the machine has: it is opened when the first job needs it.
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_LIBRARY_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_LIBRARY_H_

#include <nccl.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace penstock {

struct NcclLibrary {
  decltype(&ncclGetVersion) GetVersion = nullptr;
  decltype(&ncclGetErrorString) GetErrorString = nullptr;
  decltype(&ncclGetLastError) GetLastError = nullptr;
  decltype(&ncclGetUniqueId) GetUniqueId = nullptr;
  decltype(&ncclCommInitRankConfig) CommInitRankConfig = nullptr;
  decltype(&ncclCommAbort) CommAbort = nullptr;
  decltype(&ncclCommGetAsyncError) CommGetAsyncError = nullptr;
  decltype(&ncclGroupStart) GroupStart = nullptr;
  decltype(&ncclGroupEnd) GroupEnd = nullptr;
  decltype(&ncclSend) Send = nullptr;
  decltype(&ncclRecv) Recv = nullptr;
  decltype(&ncclAllReduce) AllReduce = nullptr;
  decltype(&ncclReduce) Reduce = nullptr;

  // The version that was opened, as NCCL_VERSION_CODE counts.
  int version = 0;

  // Opens it once in a process. FAILED_PRECONDITION where there is none, or one that is too old. Thread-safe.
  static absl::StatusOr<const NcclLibrary*> Get();

  // 22809 is 2.28.9.
  static std::string Name(int version);

  // "WHAT: unhandled system error (the last message)". UNAVAILABLE where a peer or the network is to blame. `comm` may
  // be null. ncclSuccess and ncclInProgress are OK.
  absl::Status ToStatus(ncclResult_t result, ncclComm_t comm, absl::string_view what) const;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_LIBRARY_H_
