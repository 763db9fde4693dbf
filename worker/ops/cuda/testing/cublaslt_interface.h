// Values, sizes and offsets by name, of both versions of <cublasLt.h>, and answers of both libraries.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_INTERFACE_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_INTERFACE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace penstock::cuda {

std::map<std::string, int64_t> EmulatedInterface();
std::map<std::string, int64_t> ToolkitInterface();

// Of the two libraries, whose functions `find` gives by name.
std::map<std::string, int64_t> EmulatedAnswers(const std::function<void*(const char*)>& find);
std::map<std::string, int64_t> ToolkitAnswers(const std::function<void*(const char*)>& find);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_INTERFACE_H_
