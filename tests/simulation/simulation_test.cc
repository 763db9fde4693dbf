// Runs the seeds. A failure prints its seed and the command that replays it.
//
//   bazel test //tests/simulation:simulation_test                            a few hundred seeds
//   bazel run  //tests/simulation:simulation_test -- --seeds=10000           more of them
//   bazel run  //tests/simulation:simulation_test -- --seed=42 --trace       one, step by step
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "gtest/gtest.h"
#include "tests/simulation/world.h"

namespace penstock::simulation {
namespace {

uint64_t g_first_seed = 1;
uint64_t g_seeds = 300;
bool g_trace = false;

TEST(SimulationTest, EverySeedKeepsEveryInvariant) {
  int failures = 0;
  uint64_t events = 0;
  std::map<std::string, int> seen;
  for (uint64_t seed = g_first_seed; seed < g_first_seed + g_seeds && failures < 10; ++seed) {
    World world({.seed = seed, .trace = g_trace});
    const Violations& violations = world.Run();
    events += world.events_run();
    for (const auto& [situation, count] : world.seen()) seen[situation] += count;
    if (violations.empty()) continue;
    ++failures;
    for (const Violation& violation : violations.found()) {
      ADD_FAILURE() << "seed " << seed << ": " << violation.checker << ": " << violation.text
                    << "\n  replay: bazel run "
                    << "//tests/simulation:simulation_test -- --seed=" << seed << " --trace";
    }
  }
  std::printf("%llu seeds, %llu events\n", static_cast<unsigned long long>(g_seeds),
              static_cast<unsigned long long>(events));
  for (const auto& [situation, count] : seen) std::printf("%8d  %s\n", count, situation.c_str());
  if (g_seeds < 300) return;
  // Seeds that never get into trouble prove nothing.
  for (const char* situation :
       {"a step completed by recovery", "a prepared step discarded by recovery", "a restore",
        "a job adopted after a restart", "a coordinator that steps down", "an evicted worker",
        "a seal during an update", "a seal during a write", "a fenced Push", "a fenced Prepare", "a fenced Commit",
        "a fenced Seal", "a cancelled job", "a published version", "a published state that came only in part"}) {
    EXPECT_GT(seen[situation], 0) << situation << " was never seen";
  }
}

// The same seed is the same run, event by event: what makes a replay worth its name.
TEST(SimulationTest, ASeedReplays) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    World first({.seed = seed}), second({.seed = seed});
    first.Run();
    second.Run();
    EXPECT_EQ(first.events_run(), second.events_run());
    EXPECT_EQ(first.now(), second.now());
  }
}

}  // namespace

void ReadFlags(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag.rfind("--seeds=", 0) == 0) {
      g_seeds = std::strtoull(flag.c_str() + 8, nullptr, 10);
    } else if (flag.rfind("--seed=", 0) == 0) {
      g_first_seed = std::strtoull(flag.c_str() + 7, nullptr, 10);
      g_seeds = 1;
    } else if (flag == "--trace") {
      g_trace = true;
    } else {
      std::fprintf(stderr, "unknown flag %s; there are --seeds=N, --seed=N and --trace\n", flag.c_str());
      std::exit(2);
    }
  }
}

}  // namespace penstock::simulation

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  penstock::simulation::ReadFlags(argc, argv);
  return RUN_ALL_TESTS();
}
