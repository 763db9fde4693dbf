// What the checkers found wrong in a run, by checker.
#pragma once

#include <string>
#include <vector>

namespace penstock::simulation {

struct Violation {
  std::string checker;
  std::string text;
};

class Violations {
 public:
  // A broken run may break a rule at every event: the first ones say it all.
  static constexpr size_t kKeptMax = 20;

  void Add(const std::string& checker, const std::string& text) {
    if (found_.size() < kKeptMax) found_.push_back({checker, text});
  }
  bool empty() const { return found_.empty(); }
  const std::vector<Violation>& found() const { return found_; }

 private:
  std::vector<Violation> found_;
};

}  // namespace penstock::simulation
