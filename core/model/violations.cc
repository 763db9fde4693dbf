#include "core/model/violations.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace penstock {

bool Interval::Contains(double value) const {
  const bool above = low_open ? value > low : value >= low;
  const bool below = high_open ? value < high : value <= high;
  return above && below;
}

std::string Interval::ToString() const {
  return absl::StrFormat("%s %g and %s %g", low_open ? "above" : "at least", low, high_open ? "below" : "at most",
                         high);
}

void Violations::Add(std::string_view field, std::string message) {
  v1::JobViolation violation;
  violation.set_field(std::string(field));
  violation.set_message(std::move(message));
  violations_.push_back(std::move(violation));
}

bool Violations::CheckInteger(std::string_view field, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return true;
  Add(field, absl::StrCat("is ", value, "; must be from ", low, " to ", high));
  return false;
}

bool Violations::CheckRequired(std::string_view field, uint64_t value, uint64_t high, std::string_view otherwise) {
  if (value != 0) return CheckInteger(field, value, 1, high);
  Add(field, absl::StrCat("is missing or 0; must be from 1 to ", high, std::string(otherwise)));
  return false;
}

bool Violations::CheckNumber(std::string_view field, double value, const Interval& interval) {
  if (interval.Contains(value)) return true;
  Add(field, absl::StrFormat("is %g; must be %s", value, interval.ToString()));
  return false;
}

bool Violations::Has(std::string_view field) const {
  for (const v1::JobViolation& violation : violations_) {
    const std::string& at = violation.field();
    if (at == field) return true;
    if (at.size() > field.size() && at.compare(0, field.size(), field) == 0 && at[field.size()] == '.') return true;
  }
  return false;
}

}  // namespace penstock
