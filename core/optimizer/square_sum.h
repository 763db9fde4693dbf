// Sum of squares for gradient norms.
#ifndef PENSTOCK_CORE_OPTIMIZER_SQUARE_SUM_H_
#define PENSTOCK_CORE_OPTIMIZER_SQUARE_SUM_H_

#include <span>

#include "core/base/vector_isa.h"

namespace penstock {

// Sum of the squares in double, in a fixed order (16 interleaved lanes, then a fixed tree) that doesn't depend on the
// instruction set: the same values give the same bits. A NaN or an infinity gives a sum that isn't finite; finite input
// can't overflow it.
double SumOfSquares(std::span<const float> values, VectorIsa isa = BestVectorIsa());

}  // namespace penstock

#endif  // PENSTOCK_CORE_OPTIMIZER_SQUARE_SUM_H_
