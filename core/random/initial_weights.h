// The initial weights of a job. An element depends only on (seed, parameter's name, position in the parameter), so any
// cut of the canonical space into ranges, and any order of filling them, gives the same bits.
#ifndef PENSTOCK_CORE_RANDOM_INITIAL_WEIGHTS_H_
#define PENSTOCK_CORE_RANDOM_INITIAL_WEIGHTS_H_

#include <cstdint>
#include <span>

#include "core/layout/range.h"
#include "core/model/parameter_table.h"

namespace penstock {

// Fills `out` with canonical elements `range` of `parameter`; `range` lies within it and has out.size() elements.
void FillInitial(const Parameter& parameter, uint64_t seed, const ElementRange& range, std::span<float> out);

// The same for a range that may span parameters of the table.
void FillInitial(const ParameterTable& table, uint64_t seed, const ElementRange& range, std::span<float> out);

}  // namespace penstock

#endif  // PENSTOCK_CORE_RANDOM_INITIAL_WEIGHTS_H_
