#include "worker/cuda/dynamic_library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace penstock::cuda {
namespace {

constexpr char kFolders[] = "PENSTOCK_CUDA_LIBRARIES";

// Prefixes of a library's name; the empty one is the loader's own search.
std::vector<std::string> Prefixes() {
  std::vector<std::string> prefixes;
  if (const char* folders = std::getenv(kFolders); folders != nullptr) {
    for (const absl::string_view folder : absl::StrSplit(folders, ':', absl::SkipEmpty())) {
      prefixes.push_back(absl::StrCat(folder, "/"));
    }
  }
  prefixes.push_back("");
  prefixes.push_back("/usr/local/cuda/lib64/");
  return prefixes;
}

}  // namespace

absl::StatusOr<DynamicLibrary> DynamicLibrary::Open(const std::vector<std::string>& names) {
  std::string error;
  for (const std::string& prefix : Prefixes()) {
    for (const std::string& name : names) {
      DynamicLibrary library;
      library.path_ = absl::StrCat(prefix, name);
      library.handle_ = dlopen(library.path_.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library.handle_ != nullptr) return library;
      if (error.empty()) error = dlerror();
    }
  }
  return absl::FailedPreconditionError(absl::StrCat("the library ", absl::StrJoin(names, " or "),
                                                    " isn't on this machine: install it, or name its folder in ",
                                                    kFolders, " (", error, ")"));
}

absl::Status DynamicLibrary::Find(const char* symbol, void** address) const {
  *address = dlsym(handle_, symbol);
  if (*address != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(path_, " has no ", symbol, ": another version of it is needed"));
}

}  // namespace penstock::cuda
