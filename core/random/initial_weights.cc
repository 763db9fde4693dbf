#include "core/random/initial_weights.h"

#include <algorithm>
#include <cstddef>

#include "core/base/status_macros.h"
#include "core/random/counter.h"

namespace penstock {

void FillInitial(const Parameter& parameter, uint64_t seed, const ElementRange& range, std::span<float> out) {
  PENSTOCK_CHECK(parameter.range().Contains(range));
  PENSTOCK_CHECK(static_cast<int64_t>(out.size()) == range.size());
  switch (parameter.init) {
    case InitKind::kZeros:
      std::fill(out.begin(), out.end(), 0.0f);
      return;
    case InitKind::kOnes:
      std::fill(out.begin(), out.end(), 1.0f);
      return;
    case InitKind::kNormal:
      break;
  }
  FillNormal(seed, StreamId(parameter.name), static_cast<uint64_t>(range.begin - parameter.begin), out);
  for (float& value : out) value *= parameter.init_std;
}

void FillInitial(const ParameterTable& table, uint64_t seed, const ElementRange& range, std::span<float> out) {
  PENSTOCK_CHECK(table.range().Contains(range));
  PENSTOCK_CHECK(static_cast<int64_t>(out.size()) == range.size());
  if (range.empty()) return;
  for (size_t i = static_cast<size_t>(table.IndexOf(range.begin)); i < table.parameters().size(); ++i) {
    const Parameter& parameter = table.parameters()[i];
    const ElementRange part = Intersect(parameter.range(), range);
    if (part.empty()) break;
    FillInitial(parameter, seed, part,
                out.subspan(static_cast<size_t>(part.begin - range.begin), static_cast<size_t>(part.size())));
  }
}

}  // namespace penstock
