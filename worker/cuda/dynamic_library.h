// Libraries of the CUDA toolkit that are opened when a worker first needs them, and not when it starts: the same
// binary runs on a machine that has none of them.
#ifndef PENSTOCK_WORKER_CUDA_DYNAMIC_LIBRARY_H_
#define PENSTOCK_WORKER_CUDA_DYNAMIC_LIBRARY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock::cuda {

class DynamicLibrary {
 public:
  // Opens the first of `names` that is found: in the folders of $PENSTOCK_CUDA_LIBRARIES (with colons between them),
  // where the loader looks by itself, and in /usr/local/cuda. It stays open until the process ends.
  // FAILED_PRECONDITION names what was looked for and where.
  static absl::StatusOr<DynamicLibrary> Open(const std::vector<std::string>& names);

  // Sets *function to the symbol. FAILED_PRECONDITION names it.
  template <typename Function>
  absl::Status Bind(const char* symbol, Function** function) const {
    void* address = nullptr;
    absl::Status status = Find(symbol, &address);
    *function = reinterpret_cast<Function*>(address);
    return status;
  }

 private:
  absl::Status Find(const char* symbol, void** address) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_DYNAMIC_LIBRARY_H_
