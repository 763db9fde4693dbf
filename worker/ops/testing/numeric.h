// Numbers for tests: random inputs, comparison with a stated tolerance, gradients by finite differences.
#ifndef PENSTOCK_WORKER_OPS_TESTING_NUMERIC_H_
#define PENSTOCK_WORKER_OPS_TESTING_NUMERIC_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <ostream>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {

// Uniform in [-scale, scale), every value exact in float.
inline std::vector<double> RandomValues(int64_t size, uint64_t seed, double scale = 1.0) {
  std::mt19937_64 generator(seed);
  std::vector<double> values(static_cast<size_t>(size));
  for (double& value : values) {
    const double unit = static_cast<double>(generator() >> 40) * 0x1p-23 - 1;  // 24 bits
    value = static_cast<double>(static_cast<float>(unit * scale));
  }
  return values;
}

// In [0, vocab_size).
inline std::vector<int32_t> RandomTokens(int64_t size, int64_t vocab_size, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(size));
  for (int32_t& token : tokens) token = static_cast<int32_t>(generator() % static_cast<uint64_t>(vocab_size));
  return tokens;
}

inline std::vector<float> ToFloats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

inline double MaxAbs(const std::vector<double>& values) {
  double maximum = 0;
  for (const double value : values) maximum = std::max(maximum, std::abs(value));
  return maximum;
}

// The largest difference, as a share of the largest expected value. It compares as that number does; a failed EXPECT_LE
// prints where the difference is, too.
struct ErrorShare {
  double value = 0;
  int64_t size = 0;
  // Of the largest difference, or the first that is no number.
  int64_t worst = -1;
  double actual = 0;
  double expected = 0;
  // Elements that are off by a tenth of that or more, or no numbers.
  int64_t wrong = 0;
  int64_t first_wrong = -1;
  int64_t last_wrong = -1;

  operator double() const { return value; }
};

inline void PrintTo(const ErrorShare& error, std::ostream* out) {
  *out << error.value;
  if (error.worst < 0) return;
  *out << " (at " << error.worst << " of " << error.size << ": " << error.actual << " instead of " << error.expected
       << "; " << error.wrong << " are about as wrong, from " << error.first_wrong << " to " << error.last_wrong << ")";
}

// `value` is infinite for a NaN or another size.
template <typename Actual>
ErrorShare RelativeError(const std::vector<Actual>& actual, const std::vector<double>& expected) {
  ErrorShare error{.value = std::numeric_limits<double>::infinity(), .size = static_cast<int64_t>(expected.size())};
  if (actual.size() != expected.size()) return error;
  double largest = 0;
  bool numbers = true;
  for (size_t i = 0; i < expected.size() && numbers; ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    numbers = difference <= std::numeric_limits<double>::max();
    if (numbers && difference <= largest) continue;
    largest = difference;
    error.worst = static_cast<int64_t>(i);
    error.actual = static_cast<double>(actual[i]);
    error.expected = expected[i];
  }
  for (size_t i = 0; i < expected.size() && error.worst >= 0; ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    const bool is_number = difference <= std::numeric_limits<double>::max();
    if (is_number && (!numbers || difference < largest / 10)) continue;
    ++error.wrong;
    if (error.first_wrong < 0) error.first_wrong = static_cast<int64_t>(i);
    error.last_wrong = static_cast<int64_t>(i);
  }
  if (numbers)
    error.value = largest == 0 ? 0 : largest / std::max(MaxAbs(expected), std::numeric_limits<double>::min());
  return error;
}

// The gradient of f at x by central differences: an error of about 1e-9 for values around 1.
inline std::vector<double> NumericalGradient(const std::function<double(const std::vector<double>&)>& f,
                                             std::vector<double> x, double step = 1e-5) {
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + step;
    const double above = f(x);
    x[i] = at - step;
    const double below = f(x);
    x[i] = at;
    gradient[i] = (above - below) / (2 * step);
  }
  return gradient;
}

inline double Dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// What the references' gradients may differ from finite differences by.
inline constexpr double kFiniteDifferenceTolerance = 1e-7;

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_TESTING_NUMERIC_H_
