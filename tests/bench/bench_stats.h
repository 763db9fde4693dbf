// What the benchmarks share: medians, and sides that are measured by turns.
//
// Thread-compatible; free functions.
#ifndef PENSTOCK_TESTS_BENCH_BENCH_STATS_H_
#define PENSTOCK_TESTS_BENCH_BENCH_STATS_H_

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace penstock {

inline double SecondsOf(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// One thing to measure; `run` gives a figure.
struct BenchSide {
  std::string name;
  std::function<double()> run;
};

// Each side once per round, by turns, so that what disturbs the machine disturbs all of them; after one round that
// doesn't count. {"name": {"median": x, "runs": [...]}, ...}
inline nlohmann::ordered_json MeasureByTurns(const std::vector<BenchSide>& sides, int rounds) {
  std::vector<std::vector<double>> figures(sides.size());
  for (int round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < sides.size(); ++i) {
      const double figure = sides[i].run();
      if (round > 0) figures[i].push_back(figure);
    }
  }
  nlohmann::ordered_json json;
  for (size_t i = 0; i < sides.size(); ++i) {
    json[sides[i].name] = {{"median", Median(figures[i])}, {"runs", figures[i]}};
  }
  return json;
}

}  // namespace penstock

#endif  // PENSTOCK_TESTS_BENCH_BENCH_STATS_H_
