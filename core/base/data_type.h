// The element types that weights and activations are computed in. Gradients of parameters, the optimizer's state and
// everything that is summed stay in fp32 whatever the type.
#ifndef PENSTOCK_CORE_BASE_DATA_TYPE_H_
#define PENSTOCK_CORE_BASE_DATA_TYPE_H_

#include <cstdint>

namespace penstock {

enum class DataType { kFloat32, kBfloat16 };

constexpr int64_t BytesOf(DataType type) { return type == DataType::kBfloat16 ? 2 : 4; }

// "fp32", "bf16": also the job file's words.
constexpr const char* DataTypeName(DataType type) { return type == DataType::kBfloat16 ? "bf16" : "fp32"; }

}  // namespace penstock

#endif  // PENSTOCK_CORE_BASE_DATA_TYPE_H_
