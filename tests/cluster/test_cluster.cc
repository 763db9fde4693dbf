#include "tests/cluster/test_cluster.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr absl::Duration kPollInterval = absl::Milliseconds(20);
constexpr absl::Duration kStartLimit = absl::Seconds(60);
constexpr int kLogTailLines = 15;
// English prose that every Debian system has (the package base-files).
constexpr char kEnglishText[] = "/usr/share/common-licenses/GPL-3";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

std::string FreshFolder() {
  static std::atomic<int> count{0};
  const char* base = getenv("TEST_TMPDIR");
  return absl::StrCat(base != nullptr ? base : "/tmp", "/cluster-", getpid(), "-", count++);
}

std::string Quoted(const std::string& word) {
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

bool Ended(const Json& job) {
  const std::string state = job.value("state", "");
  return state == "SUCCEEDED" || state == "FAILED" || state == "CANCELLED";
}

}  // namespace

CommandResult RunCommand(const std::vector<std::string>& arguments, absl::Duration limit) {
  static std::atomic<int> count{0};
  const std::string base = absl::StrCat(FreshFolder(), ".command-", count++);
  std::string command;
  for (const std::string& argument : arguments) absl::StrAppend(&command, Quoted(argument), " ");
  ChildProcess::Options options;
  options.name = arguments[0];
  options.arguments = {
      "/bin/sh", "-c",
      absl::StrCat("exec ", command, "> ", Quoted(base + ".out"), " 2> ", Quoted(base + ".err"), " < /dev/null")};
  CommandResult result;
  auto process = ChildProcess::Start(std::move(options));
  if (!process.ok()) {
    result.errors = process.status().ToString();
    return result;
  }
  if (!(*process)->WaitForEnd(limit)) {
    (*process)->Signal(SIGKILL);
    (*process)->WaitForEnd(absl::Seconds(5));
  }
  result.exit_code = (*process)->ExitCode();
  result.output = ReadFile(base + ".out");
  result.errors = ReadFile(base + ".err");
  std::filesystem::remove(base + ".out");
  std::filesystem::remove(base + ".err");
  return result;
}

std::string RunfilePath(const std::string& path) {
  const char* source = getenv("TEST_SRCDIR");
  const char* workspace = getenv("TEST_WORKSPACE");
  return source == nullptr ? path : absl::StrCat(source, "/", workspace, "/", path);
}

absl::StatusOr<std::unique_ptr<TestCluster>> TestCluster::Start(const Options& options) {
  const std::string directory = FreshFolder();
  std::filesystem::create_directories(directory);
  std::ofstream(directory + "/corpus.txt", std::ios::binary) << ReadFile(kEnglishText);

  ChildProcess::Options child;
  child.name = "penstock-local";
  child.log_path = directory + "/penstock-local.log";
  child.arguments = {RunfilePath("deploy/local/penstock-local"), absl::StrCat("--workers=", options.workers),
                     absl::StrCat("--params=", options.params),  absl::StrCat("--threads=", options.threads),
                     absl::StrCat("--dir=", directory),          absl::StrCat("--bindir=", RunfilePath("."))};
  child.arguments.insert(child.arguments.end(), options.more_arguments.begin(), options.more_arguments.end());
  PENSTOCK_ASSIGN_OR_RETURN(auto process, ChildProcess::Start(std::move(child)));
  std::unique_ptr<TestCluster> cluster(new TestCluster(directory, std::move(process)));
  const absl::Time deadline = absl::Now() + kStartLimit;
  while (!std::filesystem::exists(directory + "/cluster.json")) {
    if (!cluster->process_->Running() || absl::Now() > deadline) {
      return absl::UnavailableError(absl::StrCat("the cluster didn't come up:\n", cluster->LogTails()));
    }
    absl::SleepFor(kPollInterval);
  }
  return cluster;
}

TestCluster::~TestCluster() { Stop(); }

int TestCluster::Stop() {
  process_->Signal(SIGTERM);
  if (!process_->WaitForEnd(absl::Seconds(40))) ADD_FAILURE() << "penstock-local didn't end:\n" << LogTails();
  return process_->Running() ? -1 : process_->ExitCode();
}

Json TestCluster::ClusterFile() const { return Json::parse(ReadFile(directory_ + "/cluster.json")); }

absl::Status TestCluster::AddWorker(const std::string& id) {
  ChildProcess::Options worker;
  worker.name = id;
  worker.log_path = absl::StrCat(directory_, "/logs/", id, ".log");
  worker.arguments = {
      RunfilePath("worker/penstock-worker"),         absl::StrCat("--id=", id), "--threads=1",
      absl::StrCat("--coordinator=", coordinator()), "--listen=127.0.0.1:0",    "--metrics_listen=127.0.0.1:0"};
  PENSTOCK_ASSIGN_OR_RETURN(auto process, ChildProcess::Start(std::move(worker)));
  more_workers_.push_back(std::move(process));
  return absl::OkStatus();
}

CommandResult TestCluster::Ctl(std::vector<std::string> arguments, absl::Duration limit) const {
  arguments.insert(arguments.begin(),
                   {RunfilePath("services/client/penstockctl"), absl::StrCat("--coordinator=", coordinator())});
  return RunCommand(arguments, limit);
}

Json TestCluster::CtlJson(std::vector<std::string> arguments, absl::Duration limit) const {
  arguments.insert(arguments.begin(), {"-o", "json"});
  const CommandResult result = Ctl(arguments, limit);
  Json json = Json::parse(result.output, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    ADD_FAILURE() << absl::StrJoin(arguments, " ") << " gave no JSON: " << result.output << result.errors;
    return nullptr;
  }
  return json;
}

std::string TestCluster::WriteFile(const std::string& name, const std::string& text) const {
  const std::string path = absl::StrCat(directory_, "/", name);
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

CommandResult TestCluster::Submit(const std::string& job_text) const {
  return Ctl({"job", "submit", "--detach", WriteFile("job.yaml", job_text)});
}

Json TestCluster::WaitForJob(const std::string& name, const std::function<bool(const Json&)>& done,
                             absl::Duration limit) const {
  const absl::Time deadline = absl::Now() + limit;
  Json last;
  while (true) {
    // The coordinator may be away for a moment: that is no failure yet.
    const CommandResult result = Ctl({"-o", "json", "job", "show", name});
    Json job = Json::parse(result.output, nullptr, /*allow_exceptions=*/false);
    if (!job.is_discarded()) {
      last = job;
      if (done(job)) return job;
      if (Ended(job)) {
        ADD_FAILURE() << "the job ended before what was waited for: " << job.dump(1) << "\n" << LogTails();
        return job;
      }
    }
    if (absl::Now() > deadline) {
      ADD_FAILURE() << "waited " << absl::FormatDuration(limit) << " for job " << name << "; it is " << last.dump(1)
                    << "\n"
                    << result.errors << "\n"
                    << LogTails();
      return last.is_null() ? Json::object() : last;
    }
    absl::SleepFor(kPollInterval);
  }
}

Json TestCluster::WaitForEnd(const std::string& name, absl::Duration limit) const {
  return WaitForJob(name, Ended, limit);
}

Json TestCluster::RunJob(const std::string& name, const std::string& job_text) const {
  const CommandResult submitted = Submit(job_text);
  EXPECT_EQ(submitted.exit_code, 0) << submitted.errors;
  if (submitted.exit_code != 0) return Json::object();
  Json job = WaitForEnd(name);
  EXPECT_EQ(job.value("state", ""), "SUCCEEDED") << job.dump(1) << "\n" << LogTails();
  return job;
}

std::string TestCluster::LogTails() const {
  std::string text;
  std::vector<std::string> paths = {directory_ + "/penstock-local.log"};
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/logs", error)) {
    paths.push_back(entry.path().string());
  }
  for (const std::string& path : paths) {
    std::istringstream lines(ReadFile(path));
    std::vector<std::string> all;
    for (std::string line; std::getline(lines, line);) all.push_back(line);
    const size_t first = all.size() > kLogTailLines ? all.size() - kLogTailLines : 0;
    absl::StrAppend(&text, "--- ", path, "\n", absl::StrJoin(all.begin() + first, all.end(), "\n"), "\n");
  }
  return text;
}

TestCluster* SharedClusterTest::cluster_ = nullptr;

void SharedClusterTest::StartCluster(const TestCluster::Options& options) {
  auto cluster = TestCluster::Start(options);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  cluster_ = cluster->release();
}

void SharedClusterTest::TearDownTestSuite() {
  if (cluster_ == nullptr) return;
  EXPECT_EQ(cluster_->Stop(), 0);
  delete cluster_;
  cluster_ = nullptr;
}

std::string TinyJob::Text() const {
  return absl::StrFormat(
      "name: %s\n"
      "model: {family: gpt2, layers: %d, hidden: %d, heads: 4, seq_length: 16, vocab_size: %d}\n"
      "data: {path: corpus.txt, format: bytes}\n"
      "training: {steps: %d, global_batch_size: %d, micro_batch_size: %d, precision: %s, seed: 7%s}\n"
      "optimizer: {type: adamw, learning_rate: %s, weight_decay: 0.1, grad_clip: 1.0, "
      "schedule: {type: cosine, warmup_steps: 5}}\n"
      "parallel: {data: %d, tensor: %d, pipeline: %d, schedule: %s, shards: %d, zero: {stage: %d%s}}\n"
      "checkpoint: %s\n",
      name, layers, hidden, vocab_size, steps, global_batch_size, micro_batch_size, precision, training_more,
      learning_rate, data, tensor, pipeline, schedule, shards, zero_stage, zero_more, checkpoint);
}

}  // namespace penstock
