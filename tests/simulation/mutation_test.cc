// Proves that the checkers can fail: for each bug that may be put into a model, some seed of a few hundred finds it. A
// bug that no seed finds would mean that the simulation doesn't look there.
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tests/simulation/world.h"

namespace penstock::simulation {
namespace {

constexpr uint64_t kSeedsMax = 300;

struct Case {
  const char* name;
  Mutation mutation;
  // One of the checkers that must be the one to see it; empty: any.
  std::set<std::string> checkers;
};

class MutationTest : public testing::TestWithParam<Case> {};

TEST_P(MutationTest, IsCaught) {
  for (uint64_t seed = 1; seed <= kSeedsMax; ++seed) {
    // A stuck job is found out soon enough; a mutant's runs are stuck often.
    World world({.seed = seed, .mutation = GetParam().mutation, .patience = absl::Minutes(2)});
    const Violations& violations = world.Run();
    for (const Violation& violation : violations.found()) {
      if (!GetParam().checkers.empty() && !GetParam().checkers.contains(violation.checker)) continue;
      std::printf("%s: seed %llu: %s: %s\n", GetParam().name, static_cast<unsigned long long>(seed),
                  violation.checker.c_str(), violation.text.c_str());
      return;
    }
  }
  ADD_FAILURE() << "none of " << kSeedsMax << " seeds caught it";
}

INSTANTIATE_TEST_SUITE_P(
    All, MutationTest,
    testing::Values(Case{"ShardForgetsFence", Mutation::kShardForgetsFence, {"fence"}},
                    Case{"ShardDropsPrepared", Mutation::kShardDropsPrepared, {"prepared"}},
                    Case{"ShardAppliesTwice", Mutation::kShardAppliesTwice, {"version"}},
                    Case{"ShardHidesATornState", Mutation::kShardHidesATornState, {"version"}},
                    Case{"ShardServesAnyVersion", Mutation::kShardServesAnyVersion, {"version"}},
                    Case{"LeaderCommitsEarly", Mutation::kLeaderCommitsEarly, {"prepared"}},
                    Case{"LeaderCountsItsOwnSteps", Mutation::kLeaderCountsItsOwnSteps, {"history", "samples"}},
                    Case{"CoordinatorSkipsASeal", Mutation::kCoordinatorSkipsASeal, {}},
                    Case{"CoordinatorTrustsItself", Mutation::kCoordinatorTrustsItself, {"fence"}},
                    Case{"CoordinatorAlwaysDiscards", Mutation::kCoordinatorAlwaysDiscards, {}}),
    [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

}  // namespace
}  // namespace penstock::simulation
