// Values, sizes and offsets by name, of both versions of <cublasLt.h>.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_INTERFACE_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_INTERFACE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace penstock::cuda {

std::map<std::string, int64_t> EmulatedInterface();
std::map<std::string, int64_t> ToolkitInterface();

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_INTERFACE_H_
