// What users get wrong, and what breaks around them: a clear word, the right exit code, nobody down, nothing lost.
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

class BadInputTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() { StartCluster({.workers = 2, .params = 2}); }
  // Afterwards a good job still runs: nobody went down.
  void TearDown() override {
    static int count = 0;
    TinyJob job;
    job.name = absl::StrCat("after-", count++);
    job.steps = 6;
    cluster_->RunJob(job.name, job.Text());
  }

  // The tiny job's text with one part replaced.
  static std::string Text(const std::string& from, const std::string& to) {
    const std::string text = TinyJob().Text();
    EXPECT_THAT(text, HasSubstr(from));
    return absl::StrReplaceAll(text, {{from, to}});
  }

  static void ExpectRefused(const std::string& text, const std::vector<std::string>& words, int exit_code = 1) {
    const CommandResult result = cluster_->Submit(text);
    EXPECT_EQ(result.exit_code, exit_code) << text << result.output << result.errors;
    for (const std::string& word : words) EXPECT_THAT(result.errors, HasSubstr(word)) << text;
  }

  // A finished job with checkpoints at steps 5 and 10; the folder of one of them.
  static std::string Checkpoint(const std::string& name, int step) {
    TinyJob job;
    job.name = name;
    job.steps = 10;
    job.checkpoint = "{directory: checkpoints, every_steps: 5}";
    cluster_->RunJob(name, job.Text());
    return absl::StrCat(cluster_->directory(), "/checkpoints/", name, step == 5 ? "/step-00000005" : "/step-00000010");
  }
};

TEST_F(BadInputTest, JobFilesAreRefusedWithFileLineAndWhatWouldBeRight) {
  ExpectRefused(Text("layers:", "layer:"), {"job.yaml:2", "model.layer", "layers"});
  ExpectRefused(Text("layers: 4", "layers: four"), {"job.yaml:2", "model.layers", "four"});
  ExpectRefused(Text("heads: 4", "heads: 5"), {"job.yaml:2", "model.heads", "32"});
  ExpectRefused(Text("layers: 4", "layers: 99999999999"), {"job.yaml:2", "model.layers"});
  ExpectRefused(Text("learning_rate: 3e-3", "learning_rate: -1"), {"job.yaml:5", "optimizer.learning_rate"});
  ExpectRefused(Text("learning_rate: 3e-3", "learning_rate: .nan"), {"job.yaml:5", "optimizer.learning_rate"});
  ExpectRefused(Text("pipeline: 1", "pipeline: 9"), {"job.yaml:6", "parallel.pipeline"});
  ExpectRefused(Text("micro_batch_size: 1", "micro_batch_size: 3"), {"job.yaml:4", "batch_size", "8"});
  ExpectRefused(Text("data: 1", "data: 3"), {"job.yaml:", "global_batch_size"});
  ExpectRefused(Text("tiny", "no such name!"), {"job.yaml:1", "name"});
  ExpectRefused("name: [", {"job.yaml:"});
  ExpectRefused("", {"job.yaml"});
}

TEST_F(BadInputTest, ACorpusThatCantServeIsRefused) {
  ExpectRefused(Text("corpus.txt", "missing.txt"), {"job.yaml:3", "data.path", "missing.txt"});
  cluster_->WriteFile("empty.txt", "");
  ExpectRefused(Text("corpus.txt", "empty.txt"), {"job.yaml:3", "data.path", "empty"});
  ExpectRefused(Text("vocab_size: 256", "vocab_size: 100"), {"job.yaml:", "vocab_size"});
}

TEST_F(BadInputTest, MoreWorkersThanRegisteredExitsWith2) {
  TinyJob job;
  job.pipeline = 4;
  ExpectRefused(job.Text(), {"4", "2"}, /*exit_code=*/2);
}

TEST_F(BadInputTest, ALiveJobsNameAndAnUnknownJob) {
  TinyJob job;
  job.name = "live";
  job.steps = 100000;
  ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
  ExpectRefused(job.Text(), {"live"});
  EXPECT_EQ(cluster_->Ctl({"job", "cancel", "live"}).exit_code, 0);
  EXPECT_EQ(cluster_->WaitForEnd("live")["state"], "CANCELLED");
  const CommandResult cancelled_again = cluster_->Ctl({"job", "cancel", "live"});
  EXPECT_EQ(cancelled_again.exit_code, 1);
  EXPECT_THAT(cancelled_again.errors, HasSubstr("live"));
  for (const char* verb : {"show", "watch", "history", "plot", "cancel", "events"}) {
    const CommandResult unknown = cluster_->Ctl({"job", verb, "nobody"});
    EXPECT_EQ(unknown.exit_code, 1) << verb;
    EXPECT_THAT(unknown.errors, HasSubstr("nobody")) << verb;
  }
}

TEST_F(BadInputTest, ADamagedCheckpointIsFoundAndNotResumedFrom) {
  const std::string good = Checkpoint("damaged", 5);
  const std::string damaged = Checkpoint("damaged-later", 10);
  EXPECT_EQ(cluster_->Ctl({"checkpoint", "verify", good}).exit_code, 0);
  // One bit in the middle of a file.
  std::string victim;
  for (const auto& entry : std::filesystem::directory_iterator(damaged)) {
    if (entry.path().filename().string().rfind("exp_avg-", 0) == 0) victim = entry.path().string();
  }
  ASSERT_FALSE(victim.empty());
  {
    std::fstream file(victim, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(5000);
    const char byte = static_cast<char>(file.get());
    file.seekp(5000);
    file.put(static_cast<char>(byte ^ 4));
  }
  const CommandResult verified = cluster_->Ctl({"checkpoint", "verify", damaged});
  EXPECT_EQ(verified.exit_code, 1);
  EXPECT_THAT(verified.errors, HasSubstr("exp_avg-"));

  TinyJob job;
  job.name = "from-damaged";
  job.checkpoint = absl::StrCat("{resume: ", damaged, "}");
  const CommandResult submitted = cluster_->Submit(job.Text());
  if (submitted.exit_code == 0) {
    const Json ended = cluster_->WaitForEnd(job.name);
    EXPECT_EQ(ended["state"], "FAILED");
    EXPECT_THAT(ended["message"].get<std::string>(), HasSubstr("exp_avg"));
  }

  // Truncated, and without a manifest.
  std::filesystem::resize_file(victim, 1000);
  EXPECT_EQ(cluster_->Ctl({"checkpoint", "verify", damaged}).exit_code, 1);
  std::filesystem::remove(damaged + "/manifest.json");
  EXPECT_EQ(cluster_->Ctl({"checkpoint", "verify", damaged}).exit_code, 1);
}

TEST_F(BadInputTest, ACheckpointFolderThatCantBeMadeIsRefusedOrSaid) {
  TinyJob job;
  job.name = "no-folder";
  job.steps = 10;
  job.checkpoint = "{directory: /proc/no-disk-here, every_steps: 5}";
  const CommandResult submitted = cluster_->Submit(job.Text());
  if (submitted.exit_code != 0) {
    EXPECT_THAT(submitted.errors, HasSubstr("checkpoint.directory"));
    return;
  }
  const Json ended = cluster_->WaitForEnd(job.name);
  EXPECT_THAT(ended.dump(), HasSubstr("/proc/no-disk-here"));
}

TEST_F(BadInputTest, APortInUseIsSaid) {
  for (const char* binary :
       {"coordinator/penstock-coordinator", "worker/penstock-worker", "services/parameter/penstock-params"}) {
    std::vector<std::string> arguments = {RunfilePath(binary), absl::StrCat("--listen=", cluster_->coordinator())};
    if (std::string(binary).find("coordinator") == std::string::npos) {
      arguments.push_back("--id=intruder");
      arguments.push_back(absl::StrCat("--coordinator=", cluster_->coordinator()));
    } else {
      arguments.push_back(absl::StrCat("--store=", cluster_->directory(), "/other.sqlite"));
    }
    const CommandResult result = RunCommand(arguments, absl::Seconds(20));
    EXPECT_EQ(result.exit_code, 1) << binary;
    EXPECT_THAT(result.errors, HasSubstr(cluster_->coordinator())) << binary;
    EXPECT_THAT(result.errors, HasSubstr("in use")) << binary;
  }
}

TEST_F(BadInputTest, AnUnreachableCoordinatorIsSaid) {
  const CommandResult result = RunCommand(
      {RunfilePath("services/client/penstockctl"), "--coordinator=127.0.0.1:1", "job", "list"}, absl::Seconds(20));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr("127.0.0.1:1"));
}

TEST_F(BadInputTest, AClientThatGoesAwayMidStreamHarmsNobody) {
  TinyJob job;
  job.name = "watched";
  job.steps = 40;
  ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
  for (int i = 0; i < 3; ++i) cluster_->Ctl({"job", "watch", "watched"}, absl::Milliseconds(100));
  EXPECT_EQ(cluster_->WaitForEnd("watched")["state"], "SUCCEEDED");
}

}  // namespace
}  // namespace penstock
