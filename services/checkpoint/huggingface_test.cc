// Hugging Face folders out and in, on blobs in memory. Folders of another writer: tests/parity/huggingface_test.cc.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/checkpoint/checkpoint_fixture.h"
#include "services/checkpoint/diff.h"
#include "services/checkpoint/huggingface_export.h"
#include "services/checkpoint/huggingface_names.h"
#include "services/checkpoint/reader.h"
#include "services/storage/fake_blobs.h"
#include "services/storage/safetensors.h"

namespace penstock {
namespace {

constexpr char kFolder[] = "/models/out";
constexpr char kWeights[] = "/models/out/model.safetensors";
constexpr char kConfig[] = "/models/out/config.json";

class HuggingFace : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(blobs_.CreateFolders("/models").ok());
    const auto path = SaveSmallCheckpoint(blobs_, "/checkpoints/small", 100, state_);
    ASSERT_TRUE(path.ok()) << path.status();
    checkpoint_ = *path;
  }

  absl::StatusOr<std::vector<std::string>> Export(uint64_t file_bytes_max = kHuggingFaceFileBytesMax) {
    const auto weights = PretrainedWeights::Open(blobs_, checkpoint_);
    if (!weights.ok()) return weights.status();
    return ExportHuggingFace(blobs_, **weights, kFolder, file_bytes_max);
  }

  // The exported file's tensors, changed by `change`, written again.
  void Rewrite(
      const std::function<void(std::vector<SafetensorsTensor>&, std::vector<std::vector<std::byte>>&)>& change) {
    const auto file = SafetensorsFile::Open(blobs_, kWeights);
    ASSERT_TRUE(file.ok()) << file.status();
    std::vector<SafetensorsTensor> tensors;
    std::vector<std::vector<std::byte>> data;
    for (const SafetensorsEntry& entry : file->header().entries()) {
      tensors.push_back({entry.name, entry.dtype, entry.shape});
      data.emplace_back(entry.end - entry.begin);
      ASSERT_TRUE(file->Read(entry.name, 0, data.back()).ok());
    }
    change(tensors, data);
    std::vector<SafetensorsTensorData> all;
    for (size_t i = 0; i < tensors.size(); ++i) all.push_back({tensors[i], data[i]});
    const absl::Status status = WriteSafetensors(blobs_, kWeights, all, {});
    ASSERT_TRUE(status.ok()) << status;
  }

  void ReplaceInConfig(const std::string& from, const std::string& to) {
    std::string text = *ReadWholeBlob(blobs_, kConfig, 1 << 20);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    ASSERT_TRUE(blobs_.WriteAtomic(kConfig, text.replace(at, from.size(), to)).ok());
  }

  std::string OpenError() {
    const auto weights = PretrainedWeights::Open(blobs_, kFolder);
    EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument) << weights.status();
    return std::string(weights.status().message());
  }

  std::vector<float> Read(const PretrainedWeights& weights, ElementRange range) {
    std::vector<float> out(static_cast<size_t>(range.size()));
    const absl::Status status = weights.ReadRange(range, out);
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  FakeBlobs blobs_;
  const SmallState state_{7};
  std::string checkpoint_;
};

TEST_F(HuggingFace, ExportedAndImportedAgainTheWeightsHaveTheSameDigests) {
  // In one file, and in many.
  for (const uint64_t bytes_max : {kHuggingFaceFileBytesMax, uint64_t{200'000}}) {
    ASSERT_TRUE(blobs_.RemoveTree(kFolder).ok());
    const auto files = Export(bytes_max);
    ASSERT_TRUE(files.ok()) << files.status();
    const std::string directory = absl::StrCat("/imported/", bytes_max);
    const auto imported = ImportHuggingFace(blobs_, kFolder, directory);
    ASSERT_TRUE(imported.ok()) << imported.status();
    EXPECT_EQ(imported->path, directory + "/step-00000000");
    const auto manifest = VerifyCheckpoint(blobs_, imported->path, nullptr);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_EQ(manifest->step, 0u);
    EXPECT_EQ(manifest->digest, imported->manifest.digest);
    const Manifest original = SmallManifest(100, state_);
    ASSERT_EQ(manifest->pieces.size(), original.pieces.size());
    for (size_t i = 0; i < original.pieces.size(); ++i) {
      EXPECT_EQ(manifest->pieces[i][StateClass::kWeights], original.pieces[i][StateClass::kWeights]) << i;
    }
    const auto reader = CheckpointReader::Open(blobs_, imported->path);
    std::vector<float> moments(static_cast<size_t>((*reader)->table().size()), 1.0F);
    ASSERT_TRUE((*reader)->ReadRange(StateClass::kExpAvgSq, (*reader)->table().range(), moments).ok());
    EXPECT_EQ(moments, std::vector<float>(moments.size(), 0.0F));
  }
}

TEST_F(HuggingFace, AnElementIsWhereTransformersLooksForIt) {
  ASSERT_TRUE(Export().ok());
  const auto file = SafetensorsFile::Open(blobs_, kWeights);
  ASSERT_TRUE(file.ok());
  const ParameterTable table = SmallTable();
  const int64_t hidden = 96, heads = 3, dim = 32, mlp = 384;
  const auto ours = [&](const std::string& name, int64_t index) {
    return state_[StateClass::kWeights][static_cast<size_t>(table.Find(name)->begin + index)];
  };
  const auto theirs = [&](const std::string& name, std::vector<uint64_t> shape, int64_t index) {
    EXPECT_EQ(file->header().Find(name)->shape, shape) << name;
    float value = 0;
    EXPECT_TRUE(file->ReadFloats(name, static_cast<uint64_t>(index), std::span(&value, 1)).ok());
    return value;
  };
  // Head 2, v, dimension 5, input 70: output column (2 heads' worth of q, k) + head * dim + 5.
  const int64_t column = 2 * hidden + 2 * dim + 5;
  EXPECT_EQ(theirs("transformer.h.1.attn.c_attn.weight", {96, 288}, 70 * 3 * hidden + column),
            ours("h.1.attn.qkv.weight", ((2 * 3 + 2) * dim + 5) * hidden + 70));
  EXPECT_EQ(theirs("transformer.h.1.attn.c_attn.bias", {288}, column),
            ours("h.1.attn.qkv.bias", (2 * 3 + 2) * dim + 5));
  EXPECT_EQ(theirs("transformer.h.0.attn.c_proj.weight", {96, 96}, 11 * hidden + 7),
            ours("h.0.attn.proj.weight", 11 * hidden + 7));
  EXPECT_EQ(theirs("transformer.h.0.mlp.c_fc.weight", {96, 384}, 11 * mlp + 300),
            ours("h.0.mlp.fc.weight", 300 * hidden + 11));
  EXPECT_EQ(theirs("transformer.h.0.mlp.c_proj.weight", {384, 96}, 300 * hidden + 11),
            ours("h.0.mlp.proj.weight", 300 * hidden + 11));
  EXPECT_EQ(theirs("transformer.wte.weight", {256, 96}, 1000), ours("wte", 1000));
  EXPECT_EQ(heads * dim, hidden);
}

TEST_F(HuggingFace, AnyRangeCanBeRead) {
  ASSERT_TRUE(Export().ok());
  const auto weights = PretrainedWeights::Open(blobs_, kFolder);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const int64_t size = (*weights)->table().size();
  for (const ElementRange range : {ElementRange{0, size}, ElementRange{5, 6}, ElementRange{25'000, 70'001},
                                   ElementRange{size - 3, size}, ElementRange{9, 9}}) {
    const std::span<const float> expected =
        state_[StateClass::kWeights].subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
    EXPECT_EQ(Read(**weights, range), std::vector<float>(expected.begin(), expected.end())) << range.ToString();
  }
  float one = 0;
  EXPECT_EQ((*weights)->ReadRange({size, size + 1}, std::span(&one, 1)).code(), absl::StatusCode::kOutOfRange);
}

TEST_F(HuggingFace, ByteModelsHaveATokenizer) {
  const auto files = Export();
  ASSERT_TRUE(files.ok());
  EXPECT_NE(std::find(files->begin(), files->end(), "tokenizer.json"), files->end());
  const auto json = nlohmann::json::parse(*ReadWholeBlob(blobs_, std::string(kFolder) + "/tokenizer.json", 1 << 20));
  EXPECT_EQ(json["model"]["vocab"].size(), 256u);
  EXPECT_EQ(json["model"]["vocab"]["A"], 65);
  EXPECT_EQ(json["model"]["vocab"]["\u0120"], 32) << "GPT-2's alphabet writes the blank so";
}

TEST_F(HuggingFace, AFolderThatHoldsSomethingIsNotOverwritten) {
  ASSERT_TRUE(Export().ok());
  EXPECT_EQ(Export().status().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(ImportHuggingFace(blobs_, kFolder, "/imported").ok());
  EXPECT_EQ(ImportHuggingFace(blobs_, kFolder, "/imported").status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(HuggingFace, AFullDiskLeavesNothing) {
  blobs_.FillDiskAfter(100'000);
  EXPECT_EQ(Export().status().code(), absl::StatusCode::kResourceExhausted);
  blobs_.FreeDisk();
  EXPECT_EQ(blobs_.List("/models")->size(), 0u);
  ASSERT_TRUE(Export().ok());
  blobs_.FillDiskAfter(1'000'000);
  EXPECT_EQ(ImportHuggingFace(blobs_, kFolder, "/imported").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(blobs_.List("/imported")->size(), 0u);
}

TEST_F(HuggingFace, NamesWithoutThePrefixAndATiedHeadAndMasksAreFine) {
  ASSERT_TRUE(Export().ok());
  Rewrite([](auto& tensors, auto& data) {
    for (SafetensorsTensor& tensor : tensors) tensor.name = tensor.name.substr(kHuggingFacePrefix.size());
    tensors.push_back({"lm_head.weight", Dtype::kF32, tensors[0].shape});
    data.push_back(data[0]);
    tensors.push_back({"h.0.attn.bias", Dtype::kBool, {1, 1, 4, 4}});
    data.emplace_back(16);
    tensors.push_back({"h.1.attn.masked_bias", Dtype::kF32, {}});
    data.emplace_back(4);
  });
  const auto a = PretrainedWeights::Open(blobs_, kFolder);
  const auto b = PretrainedWeights::Open(blobs_, checkpoint_);
  ASSERT_TRUE(a.ok()) << a.status();
  const auto differences = DiffWeights(**a, **b);
  ASSERT_TRUE(differences.ok()) << differences.status();
  for (const TensorDifference& difference : *differences) EXPECT_EQ(difference.different, 0) << difference.name;
}

TEST_F(HuggingFace, AHeadThatIsNotTiedIsRefused) {
  ASSERT_TRUE(Export().ok());
  Rewrite([](auto& tensors, auto& data) {
    tensors.push_back({"lm_head.weight", Dtype::kF32, tensors[0].shape});
    data.push_back(data[0]);
    data.back().back() ^= std::byte{1};
  });
  EXPECT_EQ(OpenError(), std::string(kWeights) +
                             ": lm_head.weight differs from transformer.wte.weight; an output head that isn't tied to "
                             "it can't be read");
}

TEST_F(HuggingFace, HalfPrecisionIsConverted) {
  ASSERT_TRUE(Export().ok());
  // 1.5 and -0.25 in each of the formats.
  Rewrite([](auto& tensors, auto& data) {
    const auto put = [&](const std::string& name, Dtype dtype, uint16_t first, uint16_t second) {
      for (size_t i = 0; i < tensors.size(); ++i) {
        if (tensors[i].name != name) continue;
        tensors[i].dtype = dtype;
        data[i].assign(data[i].size() / 2, std::byte{0});
        std::memcpy(data[i].data(), &first, 2);
        std::memcpy(data[i].data() + 2, &second, 2);
      }
    };
    put("transformer.ln_f.weight", Dtype::kF16, 0x3E00, 0xB400);
    put("transformer.ln_f.bias", Dtype::kBF16, 0x3FC0, 0xBE80);
  });
  const auto weights = PretrainedWeights::Open(blobs_, kFolder);
  ASSERT_TRUE(weights.ok()) << weights.status();
  for (const char* name : {"ln_f.weight", "ln_f.bias"}) {
    const int64_t begin = (*weights)->table().Find(name)->begin;
    EXPECT_EQ(Read(**weights, {begin, begin + 3}), (std::vector<float>{1.5F, -0.25F, 0.0F})) << name;
  }
}

TEST_F(HuggingFace, WhatContradictsIsRefusedNamingFileAndField) {
  ASSERT_TRUE(Export().ok());
  const std::vector<std::byte> good_weights = *blobs_.MutableFile(kWeights);
  const std::vector<std::byte> good_config = *blobs_.MutableFile(kConfig);
  const auto restore = [&] {
    *blobs_.MutableFile(kWeights) = good_weights;
    *blobs_.MutableFile(kConfig) = good_config;
  };
  const std::string file = std::string(kWeights) + ": ";

  ReplaceInConfig("\"n_embd\": 96", "\"n_embd\": 192");
  EXPECT_EQ(OpenError(), file + "transformer.wte.weight has the shape [256, 96]; config.json makes it [256, 192]");
  restore();
  ReplaceInConfig("\"n_layer\": 2", "\"n_layer\": 1");
  EXPECT_EQ(OpenError(),
            file + "transformer.h.1.ln_1.weight belongs to no GPT-2 of 1 layers, as config.json describes it");
  restore();
  ReplaceInConfig("\"n_layer\": 2", "\"n_layer\": 3");
  EXPECT_EQ(OpenError(), "/models/out: h.2.ln_1.weight is missing in its safetensors; config.json asks for it");
  restore();
  ReplaceInConfig("\"n_head\": 3", "\"n_head\": 7");
  EXPECT_TRUE(OpenError().starts_with("/models/out/config.json: n_head is 7, which doesn't divide"));
  restore();
  Rewrite([](auto& tensors, auto&) { tensors[0].dtype = Dtype::kI32; });
  EXPECT_EQ(OpenError(), file + "transformer.wte.weight has the dtype I32; F32, F16 and BF16 can be read");
  restore();
  Rewrite([](auto& tensors, auto& data) {
    tensors.push_back({"wte.weight", tensors[0].dtype, tensors[0].shape});
    data.push_back(data[0]);
  });
  EXPECT_TRUE(OpenError().starts_with(file + "wte.weight comes twice"));
  restore();
  blobs_.MutableFile(kWeights)->resize(good_weights.size() - 4);
  EXPECT_TRUE(OpenError().starts_with(kWeights));
  restore();
  EXPECT_TRUE(PretrainedWeights::Open(blobs_, kFolder).ok());
}

TEST_F(HuggingFace, AnIndexThatLiesIsRefused) {
  ASSERT_TRUE(Export(200'000).ok());
  const std::string index = std::string(kFolder) + "/model.safetensors.index.json";
  const std::string good = *ReadWholeBlob(blobs_, index, 1 << 20);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    EXPECT_TRUE(blobs_.WriteAtomic(index, text).ok());
    return OpenError();
  };
  EXPECT_EQ(with("model-00001", "model-00009").substr(0, index.size()), index);
  EXPECT_EQ(with("\"model-00001", "\"../model-00001"), index + ": weight_map names a file outside of the folder");
  EXPECT_EQ(with("weight_map", "weights").substr(0, index.size()), index);
  EXPECT_EQ(with("{", "[").substr(0, index.size()), index);
  EXPECT_NE(with("transformer.wpe.weight", "transformer.wpq.weight").find("doesn't hold it"), std::string::npos);
}

TEST_F(HuggingFace, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(PretrainedWeights::Open(blobs_, "/nowhere").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(PretrainedWeights::Open(blobs_, "/models").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(Export().ok());
  ASSERT_TRUE(blobs_.RemoveTree(kWeights).ok());
  const auto weights = PretrainedWeights::Open(blobs_, kFolder);
  EXPECT_EQ(weights.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(weights.status().message().find("pytorch_model.bin"), std::string::npos);
}

TEST_F(HuggingFace, AJobTakesWhatItLeavesOutAndMayNotContradict) {
  ASSERT_TRUE(Export().ok());
  for (const std::string& folder : {std::string(kFolder), checkpoint_}) {
    v1::ModelSpec model;
    model.set_from(folder);
    model.set_heads(3);
    EXPECT_TRUE(FillModelFrom(blobs_, &model).empty());
    EXPECT_EQ(model.hidden(), 96u);
    EXPECT_EQ(model.mlp_hidden(), 384u);
    EXPECT_EQ(model.from(), folder);
    EXPECT_FALSE(model.has_init_std());

    model.set_layers(4);
    model.set_seq_length(8);
    const auto violations = FillModelFrom(blobs_, &model);
    ASSERT_EQ(violations.size(), 2u);
    EXPECT_EQ(violations[0].field(), "model.layers");
    EXPECT_EQ(violations[0].message(),
              absl::StrCat("is 4, but the model in ", folder, " has 2; use 2, or leave it out"));
    EXPECT_EQ(violations[1].field(), "model.seq_length");
  }
  v1::ModelSpec model;
  model.set_from("/nowhere");
  ASSERT_EQ(FillModelFrom(blobs_, &model).size(), 1u);
}

TEST_F(HuggingFace, DifferencesAreFoundByTensor) {
  SmallState changed(7);
  const ParameterTable table = SmallTable();
  const Parameter& parameter = *table.Find("h.0.mlp.fc.bias");
  float& element = changed.of[0][static_cast<size_t>(parameter.begin + 2)];
  element += 0.5F;
  const auto path = SaveSmallCheckpoint(blobs_, "/checkpoints/changed", 100, changed);
  ASSERT_TRUE(path.ok());
  const auto a = PretrainedWeights::Open(blobs_, *path);
  const auto b = PretrainedWeights::Open(blobs_, checkpoint_);
  const auto differences = DiffWeights(**a, **b);
  ASSERT_TRUE(differences.ok()) << differences.status();
  for (const TensorDifference& difference : *differences) {
    const bool here = difference.name == "h.0.mlp.fc.bias";
    EXPECT_EQ(difference.different, here ? 1 : 0) << difference.name;
    EXPECT_EQ(difference.max_abs, here ? 0.5 : 0.0) << difference.name;
    // Every weight is near 7.
    EXPECT_NEAR(difference.relative_norm, here ? 0.5 / (7 * std::sqrt(384.0)) : 0.0, 1e-4);
  }
}

}  // namespace
}  // namespace penstock
