// What the emulated cuBLASLt gives to the stream: a product in fp32, in an order of its own, with its epilogue.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_PRODUCT_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_PRODUCT_H_

#include <cublasLt.h>

#include <cstdint>

namespace penstock::cuda::emulator {

// Column-major: element (i, j) lies at data + (j * ld + i) elements.
struct Matrix {
  cudaDataType_t type;
  uint64_t rows;
  uint64_t columns;
  int64_t ld;
  bool operator==(const Matrix&) const = default;
};

int64_t BytesOf(cudaDataType_t type);

// D (m, n) = epilogue(alpha op(A) op(B) + beta C + bias). Everything by value: a descriptor may be gone when it runs.
struct Product {
  uint64_t m, n, k;
  bool transpose_a, transpose_b;
  float alpha, beta;
  Matrix a, b, c, d;
  const void *a_data, *b_data, *c_data;
  void* d_data;
  cublasLtEpilogue_t epilogue;
  const void* bias;  // (m), of D's type
  void* aux;         // (m, n) at aux_ld, of D's type
  int64_t aux_ld;
  // k is cut into so many parts, whose sums lie in the workspace: (splits, n, m) fp32. With one part it isn't touched.
  uint64_t splits;
  float* workspace;
};

// In the stream, through the emulator's own view of the device's memory.
void RunProduct(Product product);

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_CUBLASLT_EMULATED_PRODUCT_H_
