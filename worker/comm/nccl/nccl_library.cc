#include "worker/comm/nccl/nccl_library.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/cuda/dynamic_library.h"

namespace penstock {
namespace {

// Non-blocking communicators, a limit of their thread blocks, aborts within a group (2.22), and several communicators
// on one thread: before 2.26, ncclCommGetAsyncError left the thread of the call that had ended, and the thread's group
// with it, to the next call of the same communicator, and another one's found the group as it was. An older library
// than the header's reads the part of a configuration that it knows.
constexpr int kOldest = NCCL_VERSION(2, 26, 0);

absl::StatusOr<const NcclLibrary*> Open() {
  PENSTOCK_ASSIGN_OR_RETURN(const cuda::DynamicLibrary library, cuda::DynamicLibrary::Open({"libnccl.so.2"}));
  NcclLibrary nccl;
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclGetVersion", &nccl.GetVersion));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclGetErrorString", &nccl.GetErrorString));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclGetLastError", &nccl.GetLastError));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclGetUniqueId", &nccl.GetUniqueId));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclCommInitRankConfig", &nccl.CommInitRankConfig));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclCommAbort", &nccl.CommAbort));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclCommGetAsyncError", &nccl.CommGetAsyncError));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclGroupStart", &nccl.GroupStart));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclGroupEnd", &nccl.GroupEnd));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclSend", &nccl.Send));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclRecv", &nccl.Recv));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclAllReduce", &nccl.AllReduce));
  PENSTOCK_RETURN_IF_ERROR(library.Bind("ncclReduce", &nccl.Reduce));
  PENSTOCK_RETURN_IF_ERROR(nccl.ToStatus(nccl.GetVersion(&nccl.version), nullptr, "NCCL's version"));
  if (nccl.version < kOldest) {
    return absl::FailedPreconditionError(absl::StrCat("NCCL ", NcclLibrary::Name(nccl.version), " is older than ",
                                                      NcclLibrary::Name(kOldest), ": install that or a later one"));
  }
  return new NcclLibrary(nccl);
}

}  // namespace

absl::StatusOr<const NcclLibrary*> NcclLibrary::Get() {
  static const auto* const library = new absl::StatusOr<const NcclLibrary*>(Open());
  return *library;
}

std::string NcclLibrary::Name(int version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::Status NcclLibrary::ToStatus(ncclResult_t result, ncclComm_t comm, absl::string_view what) const {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  const char* last = comm == nullptr ? nullptr : GetLastError(comm);
  const std::string message =
      absl::StrCat(what, ": ", GetErrorString(result),
                   last == nullptr || *last == '\0' ? std::string() : absl::StrCat(" (", last, ")"));
  const bool network = result == ncclRemoteError || result == ncclSystemError;
  return network ? absl::UnavailableError(message) : absl::InternalError(message);
}

}  // namespace penstock
