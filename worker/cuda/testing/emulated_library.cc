#include "worker/cuda/testing/emulated_library.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "worker/cuda/dynamic_library.h"

namespace penstock::cuda {
namespace {

using Functions = std::map<std::string, void*>;

struct Registry {
  absl::Mutex mutex;
  std::map<std::string, Functions> libraries ABSL_GUARDED_BY(mutex);
};

Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

}  // namespace

EmulatedLibrary::EmulatedLibrary(const std::string& prefix, Functions functions) {
  const absl::MutexLock lock(&TheRegistry().mutex);
  TheRegistry().libraries[prefix] = std::move(functions);
}

absl::StatusOr<DynamicLibrary> DynamicLibrary::Open(const std::vector<std::string>& names) {
  const absl::MutexLock lock(&TheRegistry().mutex);
  for (const std::string& name : names) {
    for (auto& [prefix, functions] : TheRegistry().libraries) {
      if (!absl::StartsWith(name, prefix)) continue;
      DynamicLibrary library;
      library.path_ = name;
      library.handle_ = &functions;
      return library;
    }
  }
  return absl::FailedPreconditionError(absl::StrCat("no emulation of ", absl::StrJoin(names, " or "), " is linked in"));
}

absl::Status DynamicLibrary::Find(const char* symbol, void** address) const {
  const absl::MutexLock lock(&TheRegistry().mutex);
  const auto& functions = *static_cast<const Functions*>(handle_);
  const auto found = functions.find(symbol);
  *address = found == functions.end() ? nullptr : found->second;
  if (*address != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(path_, " has no ", symbol, ": another version of it is needed"));
}

}  // namespace penstock::cuda
