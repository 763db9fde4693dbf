// Collects what is wrong in a spec: all of it, not just the first thing.
//
// A local of one call; not synchronised.
#ifndef PENSTOCK_CORE_MODEL_VIOLATIONS_H_
#define PENSTOCK_CORE_MODEL_VIOLATIONS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// What a double must be. Bounds are never NaN; a value that is NaN is outside of every interval.
struct Interval {
  double low = 0;
  double high = 0;
  bool low_open = false;
  bool high_open = false;

  bool Contains(double value) const;
  // "at least 0 and below 1".
  std::string ToString() const;
};

class Violations {
 public:
  // `message` says what is wrong and what would be right, without the field's name.
  void Add(std::string_view field, std::string message);
  // The checks below add a violation and return false when the value is outside.
  bool CheckInteger(std::string_view field, uint64_t value, uint64_t low, uint64_t high);
  // The same for a field that has no default, where 0 may also mean that it isn't there. `otherwise` ends the message.
  bool CheckRequired(std::string_view field, uint64_t value, uint64_t high, std::string_view otherwise = "");
  bool CheckNumber(std::string_view field, double value, const Interval& interval);

  bool empty() const { return violations_.empty(); }
  // True when some violation is of `field` or of a field within it.
  bool Has(std::string_view field) const;
  std::vector<v1::JobViolation> Take() && { return std::move(violations_); }
  const std::vector<v1::JobViolation>& list() const { return violations_; }

 private:
  std::vector<v1::JobViolation> violations_;
};

}  // namespace penstock

#endif  // PENSTOCK_CORE_MODEL_VIOLATIONS_H_
