// How much of the output head's logits exists at once. The worker lays them out, the planner counts them.
#ifndef PENSTOCK_CORE_MODEL_HEAD_ROWS_H_
#define PENSTOCK_CORE_MODEL_HEAD_ROWS_H_

#include <cstdint>

namespace penstock {

// Rows at a time. Constants of each kind of device: the gradient's bits depend on them.
//
// On the CPU enough for the products to run at full speed, and with GPT-2's vocabulary 100 MB. On a GPU, where each run
// of rows reads and writes the whole gradient of the weight (V, C): 8 V C bytes at some 4 TB/s beside 6 V C FLOPs a row
// at some 800 TFLOP/s, so that 4096 rows lose 6 % by it, and 512 rows half. In bf16 412 MB.
inline constexpr int64_t kHeadRowsMax = 512;
inline constexpr int64_t kGpuHeadRowsMax = 4096;
inline constexpr int64_t HeadRowsMax(bool gpu) { return gpu ? kGpuHeadRowsMax : kHeadRowsMax; }

// Elements from a row of logits to the next one on a GPU: rows begin at multiples of 16 bytes, for the products' sake.
inline constexpr int64_t GpuLogitsPitch(int64_t columns) { return (columns + 7) / 8 * 8; }

}  // namespace penstock

#endif  // PENSTOCK_CORE_MODEL_HEAD_ROWS_H_
