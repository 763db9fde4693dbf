// A real cluster for tests: penstock-local and its processes, driven through penstockctl as a user would.
//
// Every wait has a deadline and ends with a message that says what was waited for and where the logs are. Not
// thread-safe.
#ifndef PENSTOCK_TESTS_CLUSTER_TEST_CLUSTER_H_
#define PENSTOCK_TESTS_CLUSTER_TEST_CLUSTER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "deploy/local/process.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace penstock {

using Json = nlohmann::json;

// What a finished command left.
struct CommandResult {
  int exit_code = -1;
  std::string output;
  std::string errors;
};

// Runs a command to its end, or kills it after `limit` (exit code 137).
CommandResult RunCommand(const std::vector<std::string>& arguments, absl::Duration limit);

// Path of a binary that the test has in its data: "services/client/penstockctl".
std::string RunfilePath(const std::string& path);

class TestCluster {
 public:
  struct Options {
    int workers = 2;
    int params = 1;
    int threads = 1;
    std::vector<std::string> more_arguments = {};
  };

  // A cluster in a fresh folder, with a corpus of real English text as `corpus.txt`.
  static absl::StatusOr<std::unique_ptr<TestCluster>> Start(const Options& options);
  ~TestCluster();

  const std::string& directory() const { return directory_; }
  // cluster.json as it is now.
  Json ClusterFile() const;
  std::string coordinator() const { return ClusterFile()["coordinator"]; }
  int WorkerPid(int index) const { return ClusterFile()["pids"]["workers"][index]; }
  int ParamsPid(int index) const { return ClusterFile()["pids"]["params"][index]; }
  int CoordinatorPid() const { return ClusterFile()["pids"]["coordinator"]; }

  // One more worker, as an operator would start it by hand. It ends with the cluster.
  absl::Status AddWorker(const std::string& id);

  // penstockctl with these arguments.
  CommandResult Ctl(std::vector<std::string> arguments, absl::Duration limit = absl::Seconds(60)) const;
  // The same with -o json; the parsed output. A failure is reported and gives null.
  Json CtlJson(std::vector<std::string> arguments, absl::Duration limit = absl::Seconds(60)) const;

  // Writes a file into the cluster's folder and returns its path.
  std::string WriteFile(const std::string& name, const std::string& text) const;

  // Submits a job text without following it; the exit code and messages.
  CommandResult Submit(const std::string& job_text) const;
  // Polls `job show` until `done` says yes, or the limit is over (then the test fails). The last status.
  Json WaitForJob(const std::string& name, const std::function<bool(const Json&)>& done, absl::Duration limit) const;
  // Waits for the end of a job.
  Json WaitForEnd(const std::string& name, absl::Duration limit = absl::Seconds(90)) const;
  // Submits and waits for the end; the test fails unless it succeeded.
  Json RunJob(const std::string& name, const std::string& job_text) const;

  // The ends of all logs, for failure messages.
  std::string LogTails() const;

  // Ends penstock-local with SIGTERM; its exit code.
  int Stop();

 private:
  TestCluster(std::string directory, std::unique_ptr<ChildProcess> process)
      : directory_(std::move(directory)), process_(std::move(process)) {}

  const std::string directory_;
  const std::unique_ptr<ChildProcess> process_;
  std::vector<std::unique_ptr<ChildProcess>> more_workers_;
};

// One cluster for all tests of a suite. A suite's SetUpTestSuite calls StartCluster.
class SharedClusterTest : public ::testing::Test {
 protected:
  static void StartCluster(const TestCluster::Options& options);
  // Ends it, which must go well.
  static void TearDownTestSuite();

  static TestCluster* cluster_;
};

// A tiny GPT-2's job on corpus.txt, as a job file. Fields that tests vary are members.
struct TinyJob {
  std::string name = "tiny";
  int pipeline = 1;
  int data = 1;
  int tensor = 1;
  int shards = 0;
  int zero_stage = 1;
  std::string schedule = "1f1b";
  int layers = 4;
  int hidden = 32;
  int vocab_size = 256;
  int steps = 20;
  int global_batch_size = 8;
  int micro_batch_size = 1;
  std::string precision = "fp32";
  std::string learning_rate = "3e-3";
  // More of the zero section: ", placement: local".
  std::string zero_more;
  // More lines for the training and checkpoint sections, as flow YAML: ", digest_every_steps: 5".
  std::string training_more;
  std::string checkpoint = "{}";

  std::string Text() const;
};

}  // namespace penstock

#endif  // PENSTOCK_TESTS_CLUSTER_TEST_CLUSTER_H_
