// Libraries that are linked into a test instead of being opened: worker/cuda/dynamic_library.h for targets that link
// this and not worker/cuda:runtime. An emulation of a library names itself and its functions once:
//
//   const EmulatedLibrary library("libcublasLt.so.", {{"cublasLtCreate", Address(&cublasLtCreate)}, ...});
//
// and DynamicLibrary::Open finds it by any name that begins like that. Functions that aren't named aren't found, as in
// a version that hasn't got them.
//
// Thread-safe.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATED_LIBRARY_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATED_LIBRARY_H_

#include <map>
#include <string>

namespace penstock::cuda {

template <typename Function>
void* Address(Function* function) {
  return reinterpret_cast<void*>(function);
}

class EmulatedLibrary {
 public:
  // From then on, for the process; a later one of the same prefix takes its place.
  EmulatedLibrary(const std::string& prefix, std::map<std::string, void*> functions);
};

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATED_LIBRARY_H_
