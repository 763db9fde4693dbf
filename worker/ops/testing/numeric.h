// Numbers for tests: random inputs, comparison with a stated tolerance, gradients by finite differences.
#ifndef PENSTOCK_WORKER_OPS_TESTING_NUMERIC_H_
#define PENSTOCK_WORKER_OPS_TESTING_NUMERIC_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
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

// The largest difference, as a share of the largest expected value. Infinite for a NaN or another size.
template <typename Actual>
double RelativeError(const std::vector<Actual>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    if (!(difference <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    error = std::max(error, difference);
  }
  return error == 0 ? 0 : error / std::max(MaxAbs(expected), std::numeric_limits<double>::min());
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
