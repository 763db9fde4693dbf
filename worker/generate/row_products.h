// Products of a few rows with a weight, for generating: in that case the weight's bytes are what costs, each of them
// read once. (oneDNN's products want many rows, and packed weights.)
//
// Every output element is summed in a fixed order, whatever the number of rows and threads, so a row's result doesn't
// depend on the rows that it is computed with. Thread-safe: free functions.
#ifndef PENSTOCK_WORKER_GENERATE_ROW_PRODUCTS_H_
#define PENSTOCK_WORKER_GENERATE_ROW_PRODUCTS_H_

#include <cstdint>

namespace penstock {

// out (rows, n) = in (rows, k) x weight (n, k)^T + bias (n); bias may be null.
void MultiplyOutIn(const float* in, const float* weight, const float* bias, float* out, int64_t rows, int64_t k,
                   int64_t n, int threads);

// out (rows, n) += in (rows, k) x weight (k, n) + bias (n).
void AddMultiplyInOut(const float* in, const float* weight, const float* bias, float* out, int64_t rows, int64_t k,
                      int64_t n, int threads);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_GENERATE_ROW_PRODUCTS_H_
