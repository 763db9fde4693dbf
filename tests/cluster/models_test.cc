// Models out and in: Hugging Face folders, going on from them, comparing, and text from what was trained.
#include <filesystem>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

// With both betas zero AdamW keeps nothing from step to step: the first moment is the gradient and the second one its
// square, but for rounding. And the corpus is one single sample. So a job that goes on from weights alone has all that
// the one before would have had.
std::string StatelessJob(const std::string& name, int steps, const std::string& model, const std::string& checkpoint) {
  TinyJob job;
  job.name = name;
  job.steps = steps;
  job.checkpoint = checkpoint;
  return absl::StrReplaceAll(
      job.Text(), {{"corpus.txt, format: bytes", "one_sample.txt, format: bytes, validation_ratio: 0"},
                   {"seed: 7", "seed: 7, validate_every_steps: 0"},
                   {"type: adamw, learning_rate: 3e-3", "type: adamw, beta1: 0, beta2: 0, learning_rate: 1e-3"},
                   {"type: cosine, warmup_steps: 5", "type: constant"},
                   {"{family: gpt2, layers: 4, hidden: 32, heads: 4, seq_length: 16, vocab_size: 256}", model}});
}

constexpr char kSizes[] = "{family: gpt2, layers: 2, hidden: 32, heads: 4, seq_length: 16, vocab_size: 256}";

class ModelsTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NO_FATAL_FAILURE(StartCluster({.workers = 1, .params = 2}));
    cluster_->WriteFile("one_sample.txt", "In the beginning.");
    // A job and its checkpoints at steps 6 and 12.
    cluster_->RunJob("whole", StatelessJob("whole", 12, kSizes, "{directory: checkpoints, every_steps: 6}"));
  }

  static std::string Folder(const std::string& name) { return absl::StrCat(cluster_->directory(), "/", name); }
  static std::string Checkpoint(const std::string& job, const std::string& step) {
    return Folder(absl::StrCat("checkpoints/", job, "/step-000000", step));
  }
  static std::vector<double> Losses(const std::string& job) {
    std::vector<double> losses;
    for (const Json& record : cluster_->CtlJson({"job", "history", job})) losses.push_back(record["loss"]);
    return losses;
  }
};

TEST_F(ModelsTest, AJobThatGoesOnFromAnExportHasTheLossesOfTheJobThatWentOn) {
  const std::string exported = Folder("exported");
  ASSERT_EQ(cluster_->Ctl({"checkpoint", "export", Checkpoint("whole", "06"), exported}).exit_code, 0);
  const Json imported = cluster_->CtlJson({"checkpoint", "import", exported, Folder("imported")});
  EXPECT_EQ(cluster_->CtlJson({"checkpoint", "verify", imported["path"]})["digest"], imported["digest"]);
  // The folder of checkpoints stands for its newest.
  EXPECT_EQ(cluster_->CtlJson({"checkpoint", "verify", Folder("imported")})["path"], imported["path"]);

  const std::vector<double> whole = Losses("whole");
  ASSERT_EQ(whole.size(), 12u);
  const std::vector<double> rest(whole.begin() + 6, whole.end());
  // The folder itself, the checkpoint made of it, and the one that it was made of; sizes left out or given.
  cluster_->RunJob("from-folder", StatelessJob("from-folder", 6, "{from: exported}", "{directory: checkpoints}"));
  cluster_->RunJob("from-import",
                   StatelessJob("from-import", 6, kSizes,
                                absl::StrCat("{directory: checkpoints, resume: ", std::string(imported["path"]), "}")));
  cluster_->RunJob("from-checkpoint", StatelessJob("from-checkpoint", 6,
                                                   absl::StrCat("{from: ", Checkpoint("whole", "06"), ", layers: 2}"),
                                                   "{directory: checkpoints}"));
  const std::vector<double> losses = Losses("from-folder");
  ASSERT_EQ(losses.size(), rest.size());
  // The weights are the same bits, so the first loss is, too.
  EXPECT_EQ(losses[0], rest[0]);
  // The first moment becomes m + (g - m), which is g but for its last bit.
  for (size_t i = 0; i < rest.size(); ++i) EXPECT_NEAR(losses[i], rest[i], 1e-5) << i;
  EXPECT_NE(losses[0], whole[0]);
  // All three ways begin with the same weights and no moments.
  for (const char* job : {"from-import", "from-checkpoint"}) {
    EXPECT_EQ(Losses(job), losses) << job;
    EXPECT_EQ(cluster_->CtlJson({"checkpoint", "diff", "from-folder", job})["equal"], true) << job;
  }
  const Json different = cluster_->CtlJson({"checkpoint", "diff", Checkpoint("whole", "06"), "whole"});
  EXPECT_EQ(different["equal"], false);
  EXPECT_EQ(different["tensors"].size(), 28u);
  EXPECT_GT(different["tensors"][0]["max_abs"], 0.0);
}

TEST_F(ModelsTest, WhatContradictsTheFolderIsRefusedWithFileAndLine) {
  const CommandResult other_size = cluster_->Submit(
      StatelessJob("wrong", 6, absl::StrCat("{from: ", Checkpoint("whole", "06"), ", heads: 8}"), "{}"));
  EXPECT_EQ(other_size.exit_code, 1);
  EXPECT_THAT(other_size.errors, HasSubstr("job.yaml:2: model.heads: is 8, but the model in "));
  const CommandResult nowhere = cluster_->Submit(StatelessJob("wrong", 6, "{from: nowhere}", "{}"));
  EXPECT_EQ(nowhere.exit_code, 1);
  EXPECT_THAT(nowhere.errors, HasSubstr("job.yaml:2: model.from: "));
}

TEST_F(ModelsTest, TheSameSeedWritesTheSameText) {
  const auto generate = [](const std::string& seed, const std::string& source) {
    return cluster_->CtlJson({"generate", source, "--prompt", "In the", "--max-tokens", "40", "--seed", seed});
  };
  const Json text = generate("3", "whole");
  EXPECT_EQ(text["tokens"].size(), 40u);
  EXPECT_EQ(text["step"], 12);
  EXPECT_EQ(text["worker"], "worker-0");
  EXPECT_EQ(generate("3", "whole"), text);
  EXPECT_EQ(generate("3", Checkpoint("whole", "12"))["tokens"], text["tokens"]);
  EXPECT_EQ(generate("3", Folder("checkpoints/whole"))["tokens"], text["tokens"]);
  EXPECT_NE(generate("4", "whole")["tokens"], text["tokens"]);
  const CommandResult printed = cluster_->Ctl({"generate", "whole", "-p", "In the", "-n", "40", "--seed", "3"});
  EXPECT_EQ(printed.exit_code, 0) << printed.errors;
  EXPECT_EQ(printed.output, absl::StrCat("In the", std::string(text["text"]), "\n"));
}

TEST_F(ModelsTest, WhatCannotBeGeneratedIsSaidClearly) {
  const auto error = [](const std::vector<std::string>& arguments) {
    const CommandResult result = cluster_->Ctl(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.output;
    EXPECT_EQ(result.output, "");
    return result.errors;
  };
  EXPECT_THAT(error({"generate", "nobody"}), HasSubstr("nobody"));
  EXPECT_THAT(error({"generate", "/no/such/folder"}), HasSubstr("/no/such/folder"));
  EXPECT_THAT(error({"generate", "whole", "--temperature", "-1"}), HasSubstr("temperature is -1"));
  EXPECT_THAT(error({"generate", "whole", "--top-p", "half"}), HasSubstr("--top-p 'half' isn't a number"));
  EXPECT_THAT(error({"generate", "whole", "--max-tokens", "0"}), HasSubstr("max_tokens is 0"));
  EXPECT_THAT(error({"generate", "whole", "--tokens", "1,300"}), HasSubstr("token 300"));
}

TEST_F(ModelsTest, AJobGoesBeforeAText) {
  // Far longer than the test.
  CommandResult text;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  std::thread writer([&text, deadline] {
    // One of the short texts below may be before it.
    do {
      text = cluster_->Ctl({"generate", "whole", "--max-tokens", "100000", "--temperature", "0"}, absl::Minutes(2));
    } while (text.errors.find("generating already") != std::string::npos && absl::Now() < deadline);
  });
  std::string busy;
  while (busy.find("generating already") == std::string::npos && absl::Now() < deadline) {
    busy = cluster_->Ctl({"generate", "whole", "--max-tokens", "1"}).errors;
  }
  EXPECT_THAT(busy, HasSubstr("worker-0 is generating already"));
  TinyJob job;
  job.name = "long";
  job.steps = 100000;
  ASSERT_EQ(cluster_->Submit(job.Text()).exit_code, 0);
  cluster_->WaitForJob(
      "long", [](const Json& status) { return status["step"] >= 2; }, absl::Minutes(1));
  writer.join();
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_THAT(text.errors, HasSubstr("worker-0 was needed for a job"));

  const CommandResult nobody = cluster_->Ctl({"generate", "whole"});
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.errors, HasSubstr("no worker is idle, and one has to generate: they work on long"));
  EXPECT_EQ(cluster_->Ctl({"job", "cancel", "long"}).exit_code, 0);
  cluster_->WaitForEnd("long");
}

}  // namespace
}  // namespace penstock
