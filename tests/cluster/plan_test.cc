// Planning on a real cluster: what `plan` prints for programs, a job that leaves its mesh to the coordinator, and one
// that no cluster here can hold.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

// The tiny job with its mesh left open.
std::string AutoText(const std::string& name) {
  TinyJob job;
  job.name = name;
  std::string text = job.Text();
  const size_t begin = text.find("parallel: ");
  text.replace(begin, text.find('\n', begin) - begin, "parallel: auto");
  return text;
}

TEST(PlanTest, PlansForProgramsAndRunsWhatItPlans) {
  auto started = TestCluster::Start({.workers = 2, .params = 1});
  ASSERT_TRUE(started.ok()) << started.status();
  TestCluster& cluster = **started;

  const std::string file = cluster.WriteFile("open.yaml", AutoText("open"));
  const Json plan = cluster.CtlJson({"plan", file, "--compare"});
  ASSERT_TRUE(plan.is_object());
  const int ranks =
      plan["mesh"]["pipeline"].get<int>() * plan["mesh"]["data"].get<int>() * plan["mesh"]["tensor"].get<int>();
  EXPECT_GE(ranks, 1);
  EXPECT_LE(ranks, 2);
  EXPECT_GT(plan["step_seconds"], 0);
  EXPECT_GE(plan["bubble_ratio"], 0);
  EXPECT_LT(plan["bubble_ratio"], 1);
  EXPECT_EQ(plan["stages"].size(), plan["mesh"]["pipeline"].get<size_t>());
  int layers = 0;
  for (const Json& stage : plan["stages"]) layers += stage["layers"].get<int>();
  EXPECT_EQ(layers, 4);
  ASSERT_EQ(plan["workers"].size(), static_cast<size_t>(ranks));
  for (const Json& worker : plan["workers"]) {
    uint64_t sum = 0;
    for (const char* name : {"parameter", "gradient", "optimizer", "activation", "communication", "workspace"}) {
      sum += worker["bytes"][name].get<uint64_t>();
    }
    EXPECT_EQ(worker["bytes"]["total"], sum);
    EXPECT_LT(sum, worker["available_bytes"].get<uint64_t>());
  }
  EXPECT_GE(plan["alternatives"].size(), 2u);
  for (const Json& other : plan["alternatives"]) EXPECT_FALSE(other["reason"].get<std::string>().empty());
  EXPECT_THAT(cluster.Ctl({"plan", file}).output, HasSubstr("s a step"));

  // A cluster that isn't there.
  const Json imagined =
      cluster.CtlJson({"plan", file, "--set", "parallel.data=8", "--workers", "8", "--workers-per-host", "4",
                       "--worker-threads", "4", "--host-cores", "16", "--host-memory-gib", "40", "--shards", "2"});
  ASSERT_TRUE(imagined.is_object());
  ASSERT_EQ(imagined["workers"].size(), 8u);
  EXPECT_EQ(imagined["workers"][7]["available_bytes"], uint64_t{9} << 30);
  EXPECT_THAT(cluster.Ctl({"plan", file, "--shards", "2"}).errors, HasSubstr("--shards needs --workers"));

  const Json job = cluster.RunJob("open", AutoText("open"));
  // Between the two nothing was learnt.
  EXPECT_EQ(job["mesh"], plan["mesh"]);
  EXPECT_GT(job["predicted_step_seconds"], 0);
  bool said = false;
  for (const Json& event : cluster.CtlJson({"job", "events", "open"})) {
    said = said || event["message"].get<std::string>().rfind("planned: pipeline ", 0) == 0;
  }
  EXPECT_TRUE(said);

  // 12 bytes for each of some 10^11 weights: nobody here has that.
  const std::string huge =
      absl::StrReplaceAll(AutoText("huge"), {{"layers: 4, hidden: 32", "layers: 64, hidden: 16384"}});
  for (const CommandResult& refused :
       {cluster.Submit(huge), cluster.Ctl({"plan", cluster.WriteFile("h.yaml", huge)})}) {
    EXPECT_EQ(refused.exit_code, 2) << refused.errors;
    EXPECT_THAT(refused.errors, HasSubstr("the job needs "));
    EXPECT_THAT(refused.errors, AnyOf(HasSubstr("would do"), HasSubstr("would need less")));
  }
  EXPECT_EQ(cluster.Stop(), 0);
}

}  // namespace
}  // namespace penstock
