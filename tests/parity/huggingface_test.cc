// Folders that transformers wrote (make_hf_fixture.py): what Penstock computes from them against PyTorch's logits, and
// what comes out when they are imported and exported again.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/model/parameter_table.h"
#include "gtest/gtest.h"
#include "services/checkpoint/diff.h"
#include "services/checkpoint/huggingface_export.h"
#include "services/checkpoint/pretrained.h"
#include "services/storage/blobs.h"
#include "services/storage/safetensors.h"
#include "worker/generate/gpt2_decoder.h"
#include "worker/model/memory_plan.h"
#include "worker/model/stage_model.h"
#include "worker/ops/cpu/cpu_backend.h"

namespace penstock {
namespace {

constexpr double kTolerance = 1e-4;

std::string Fixture(const std::string& name) {
  return std::string(std::getenv("TEST_SRCDIR")) + "/" + std::getenv("TEST_WORKSPACE") + "/tests/parity/fixtures/" +
         name;
}

template <typename T>
std::vector<T> ReadTensor(const std::string& name) {
  const auto file = SafetensorsFile::Open(LocalDisk(), Fixture("hf_gpt2_logits.safetensors"));
  EXPECT_TRUE(file.ok()) << file.status();
  std::vector<T> values(file->header().Find(name)->elements());
  EXPECT_TRUE(file->Read(name, 0, std::as_writable_bytes(std::span(values))).ok());
  return values;
}

// The folder's weights in canonical order.
std::vector<float> AllWeights(const PretrainedWeights& weights) {
  std::vector<float> all(static_cast<size_t>(weights.table().size()));
  const absl::Status status = weights.ReadRange(weights.table().range(), all);
  EXPECT_TRUE(status.ok()) << status;
  return all;
}

// What a worker's stage of embedding and all layers makes of the tokens, (B, T, C).
std::vector<float> RunStage(const PretrainedWeights& weights, const std::vector<int32_t>& tokens) {
  const v1::ModelSpec& spec = weights.spec().model();
  const auto backend = CreateCpuBackend({.threads = 2}).value();
  const int blocks = static_cast<int>(weights.table().blocks().size());
  MemoryPlan plan;
  StageOptions options;
  // Without the last block, whose head keeps no logits.
  options.blocks = {0, blocks - 1};
  options.micro_batch_size = static_cast<int64_t>(tokens.size()) / spec.seq_length();
  const auto stage = CreateStageModel(spec, weights.table(), options, backend.get(), &plan).value();
  const Arena arena = Arena::Allocate(plan, backend.get()).value();
  stage->Bind(arena);
  const std::vector<float> all = AllWeights(weights);
  const auto fill = [&all](const RangeList& list, std::span<std::byte> memory) {
    for (const RangeList::Placed& placed : list.placed()) {
      const std::span elements(all.begin() + placed.range.begin, static_cast<size_t>(placed.range.size()));
      std::ranges::copy(std::as_bytes(elements), memory.begin() + placed.offset * sizeof(float));
    }
  };
  fill(stage->parameters().untied, stage->UntiedWeights());
  fill(stage->parameters().tied, stage->TiedWeights());
  std::vector<float> output(static_cast<size_t>(stage->boundary_bytes()) / sizeof(float));
  ForwardArgs args;
  args.tokens = tokens;
  args.output = std::as_writable_bytes(std::span(output));
  args.training = false;
  const auto loss = stage->Forward(0, args);
  EXPECT_TRUE(loss.ok()) << loss.status();
  return output;
}

// The final norm and the head, in double.
std::vector<double> Head(const PretrainedWeights& weights, const std::vector<float>& x) {
  const std::vector<float> all = AllWeights(weights);
  const auto at = [&](const std::string& name) { return all.data() + weights.table().Find(name)->begin; };
  const v1::ModelSpec& model = weights.spec().model();
  const size_t hidden = model.hidden();
  std::vector<double> logits;
  for (size_t row = 0; row < x.size() / hidden; ++row) {
    const float* in = x.data() + row * hidden;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < hidden; ++i) mean += in[i] / static_cast<double>(hidden);
    for (size_t i = 0; i < hidden; ++i) squares += (in[i] - mean) * (in[i] - mean) / static_cast<double>(hidden);
    std::vector<double> norm(hidden);
    for (size_t i = 0; i < hidden; ++i) {
      norm[i] =
          (in[i] - mean) / std::sqrt(squares + model.layer_norm_epsilon()) * at("ln_f.weight")[i] + at("ln_f.bias")[i];
    }
    for (size_t token = 0; token < model.vocab_size(); ++token) {
      double logit = 0;
      for (size_t i = 0; i < hidden; ++i) logit += norm[i] * at("wte")[token * hidden + i];
      logits.push_back(logit);
    }
  }
  return logits;
}

struct Case {
  const char* folder;
  const char* logits;
};

class HuggingFaceParity : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto weights = PretrainedWeights::Open(LocalDisk(), Fixture(GetParam().folder));
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights_ = *std::move(weights);
  }

  std::unique_ptr<PretrainedWeights> weights_;
};

TEST_P(HuggingFaceParity, AStagesLogitsArePyTorchs) {
  const std::vector<float> expected = ReadTensor<float>(GetParam().logits);
  const std::vector<double> logits = Head(*weights_, RunStage(*weights_, ReadTensor<int32_t>("tokens")));
  ASSERT_EQ(logits.size(), expected.size());
  for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], kTolerance) << i;
}

TEST_P(HuggingFaceParity, TheGeneratorsLogitsArePyTorchs) {
  const std::vector<float> expected = ReadTensor<float>(GetParam().logits);
  const std::vector<int32_t> tokens = ReadTensor<int32_t>("tokens");
  const v1::ModelSpec& model = weights_->spec().model();
  const auto decoder = Gpt2Decoder::Create(model, weights_->table(), 2);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  ASSERT_TRUE(weights_->ReadRange(weights_->table().range(), (*decoder)->weights()).ok());
  std::vector<float> logits(model.vocab_size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i % model.seq_length() == 0) (*decoder)->Clear();
    ASSERT_TRUE((*decoder)->Append(std::span(tokens).subspan(i, 1), logits).ok());
    for (size_t v = 0; v < logits.size(); ++v) {
      ASSERT_NEAR(logits[v], expected[i * logits.size() + v], kTolerance) << i << " " << v;
    }
  }
}

TEST_P(HuggingFaceParity, ImportedExportedAndImportedAgainItHasTheSameDigest) {
  const std::string root = testing::TempDir() + "/huggingface-" + GetParam().folder;
  std::filesystem::remove_all(root);
  const auto imported = ImportHuggingFace(LocalDisk(), Fixture(GetParam().folder), root + "/first");
  ASSERT_TRUE(imported.ok()) << imported.status();
  const auto checkpoint = PretrainedWeights::Open(LocalDisk(), imported->path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_TRUE(ExportHuggingFace(LocalDisk(), **checkpoint, root + "/exported").ok());
  const auto again = ImportHuggingFace(LocalDisk(), root + "/exported", root + "/second");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->manifest.digest, imported->manifest.digest);
  const auto differences = DiffWeights(**checkpoint, *weights_);
  ASSERT_TRUE(differences.ok()) << differences.status();
  for (const TensorDifference& difference : *differences) EXPECT_EQ(difference.different, 0) << difference.name;
}

INSTANTIATE_TEST_SUITE_P(Folders, HuggingFaceParity,
                         testing::Values(Case{"hf_gpt2", "logits"}, Case{"hf_gpt2_sharded", "logits_sharded"}),
                         [](const auto& info) { return info.index == 0 ? "OneFile" : "ShardedBfloat16"; });

}  // namespace
}  // namespace penstock
