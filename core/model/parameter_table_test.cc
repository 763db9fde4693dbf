#include "core/model/parameter_table.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "core/model/model_rules.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

v1::ModelSpec Gpt2(uint32_t layers, uint32_t hidden, uint32_t heads, uint32_t seq_length, uint32_t vocab_size) {
  v1::ModelSpec model;
  model.set_family(v1::ModelSpec::FAMILY_GPT2);
  model.set_layers(layers);
  model.set_hidden(hidden);
  model.set_heads(heads);
  model.set_seq_length(seq_length);
  model.set_vocab_size(vocab_size);
  FillModelDefaults(&model);
  return model;
}

// The published sizes of GPT-2 (Hugging Face's gpt2, gpt2-medium, gpt2-large, gpt2-xl), head tied.
TEST(ParameterTableTest, KnownParameterCounts) {
  EXPECT_EQ(ParameterTable::Create(Gpt2(12, 768, 12, 1024, 50257))->size(), 124439808);
  EXPECT_EQ(ParameterTable::Create(Gpt2(24, 1024, 16, 1024, 50257))->size(), 354823168);
  EXPECT_EQ(ParameterTable::Create(Gpt2(36, 1280, 20, 1024, 50257))->size(), 774030080);
  EXPECT_EQ(ParameterTable::Create(Gpt2(48, 1600, 25, 1024, 50257))->size(), 1557611200);
}

TEST(ParameterTableTest, NamesShapesAndOrder) {
  const ParameterTable table = *ParameterTable::Create(Gpt2(1, 8, 2, 5, 11));
  struct Row {
    std::string name;
    std::vector<int64_t> shape;
    SplitAxis split;
    InitKind init;
    bool decay;
  };
  const auto split = SplitAxis::kSplit;
  const auto replicated = SplitAxis::kReplicated;
  const std::vector<Row> rows = {
      {"wte", {11, 8}, split, InitKind::kNormal, true},
      {"wpe", {5, 8}, replicated, InitKind::kNormal, true},
      {"h.0.ln_1.weight", {8}, replicated, InitKind::kOnes, false},
      {"h.0.ln_1.bias", {8}, replicated, InitKind::kZeros, false},
      {"h.0.attn.qkv.weight", {2, 3, 4, 8}, split, InitKind::kNormal, true},
      {"h.0.attn.qkv.bias", {2, 3, 4}, split, InitKind::kZeros, false},
      {"h.0.attn.proj.weight", {8, 8}, split, InitKind::kNormal, true},
      {"h.0.attn.proj.bias", {8}, replicated, InitKind::kZeros, false},
      {"h.0.ln_2.weight", {8}, replicated, InitKind::kOnes, false},
      {"h.0.ln_2.bias", {8}, replicated, InitKind::kZeros, false},
      {"h.0.mlp.fc.weight", {32, 8}, split, InitKind::kNormal, true},
      {"h.0.mlp.fc.bias", {32}, split, InitKind::kZeros, false},
      {"h.0.mlp.proj.weight", {32, 8}, split, InitKind::kNormal, true},
      {"h.0.mlp.proj.bias", {8}, replicated, InitKind::kZeros, false},
      {"ln_f.weight", {8}, replicated, InitKind::kOnes, false},
      {"ln_f.bias", {8}, replicated, InitKind::kZeros, false},
  };
  ASSERT_EQ(table.parameters().size(), rows.size());
  int64_t next = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Parameter& parameter = table.parameters()[i];
    EXPECT_EQ(parameter.name, rows[i].name);
    EXPECT_EQ(parameter.shape, rows[i].shape) << parameter.name;
    EXPECT_EQ(parameter.split, rows[i].split) << parameter.name;
    EXPECT_EQ(parameter.init, rows[i].init) << parameter.name;
    EXPECT_EQ(parameter.decay, rows[i].decay) << parameter.name;
    EXPECT_EQ(parameter.tied, i == 0) << parameter.name;
    EXPECT_EQ(parameter.begin, next);
    next = parameter.end;
    EXPECT_EQ(table.IndexOf(parameter.begin), static_cast<int>(i));
    EXPECT_EQ(table.IndexOf(parameter.end - 1), static_cast<int>(i));
    EXPECT_EQ(table.Find(parameter.name), &parameter);
  }
  EXPECT_EQ(table.size(), next);
  EXPECT_EQ(table.Find("h.1.ln_1.weight"), nullptr);
  EXPECT_EQ(table.tied(), &table.parameters()[0]);
}

TEST(ParameterTableTest, ResidualProjectionsStartSmaller) {
  const ParameterTable table = *ParameterTable::Create(Gpt2(8, 8, 2, 5, 11));
  EXPECT_FLOAT_EQ(table.Find("wte")->init_std, 0.02f);
  EXPECT_FLOAT_EQ(table.Find("h.3.mlp.fc.weight")->init_std, 0.02f);
  EXPECT_FLOAT_EQ(table.Find("h.3.attn.proj.weight")->init_std, 0.02f / 4);
  EXPECT_FLOAT_EQ(table.Find("h.7.mlp.proj.weight")->init_std, 0.02f / 4);
}

TEST(ParameterTableTest, BlocksTileTheParameters) {
  const ParameterTable table = *ParameterTable::Create(Gpt2(3, 8, 2, 5, 11));
  ASSERT_EQ(table.blocks().size(), 5u);
  int next_parameter = 0;
  int64_t next_element = 0;
  for (size_t i = 0; i < table.blocks().size(); ++i) {
    const Block& block = table.blocks()[i];
    EXPECT_EQ(block.first_parameter, next_parameter);
    EXPECT_EQ(block.begin, next_element);
    for (int p = block.first_parameter; p < block.last_parameter; ++p) {
      EXPECT_EQ(table.parameters()[static_cast<size_t>(p)].block, static_cast<int>(i));
    }
    next_parameter = block.last_parameter;
    next_element = block.end;
    EXPECT_GT(block.forward_flops_per_sample, 0);
    EXPECT_GT(block.backward_flops_per_sample, block.forward_flops_per_sample);
    EXPECT_GT(block.activation_bytes_per_sample, 0);
  }
  EXPECT_EQ(next_parameter, static_cast<int>(table.parameters().size()));
  EXPECT_EQ(next_element, table.size());
  EXPECT_EQ(table.blocks()[0].name, "embedding");
  EXPECT_EQ(table.blocks()[2].name, "h.1");
  EXPECT_EQ(table.blocks()[4].kind, BlockKind::kHead);
  EXPECT_TRUE(table.blocks()[4].uses_tied);
  EXPECT_EQ(table.blocks()[1].boundary_elements_per_sample, 5 * 8);
}

// The rule of thumb: a training step takes about 6 FLOPs for each parameter and token, attention apart.
TEST(ParameterTableTest, FlopsFollowTheParameters) {
  const ParameterTable table = *ParameterTable::Create(Gpt2(12, 768, 12, 128, 50257));
  double flops = 0;
  for (const Block& block : table.blocks()) flops += block.forward_flops_per_sample + block.backward_flops_per_sample;
  const double rule = 6.0 * static_cast<double>(table.size()) * 128;
  EXPECT_NEAR(flops / rule, 1, 0.03);
}

TEST(ParameterTableTest, PiecesTileTheSpace) {
  const ParameterTable table = *ParameterTable::Create(Gpt2(2, 64, 2, 50, 1000));
  int64_t next = 0;
  for (int64_t piece = 0; piece < table.piece_count(); ++piece) {
    EXPECT_EQ(table.Piece(piece).begin, next);
    EXPECT_LE(table.Piece(piece).size(), kPieceElements);
    next = table.Piece(piece).end;
  }
  EXPECT_EQ(next, table.size());
  EXPECT_EQ(PieceCount(0), 0);
  EXPECT_EQ(PieceCount(1), 1);
  EXPECT_EQ(PieceCount(kPieceElements), 1);
  EXPECT_EQ(PieceCount(kPieceElements + 1), 2);
}

TEST(ParameterTableTest, RefusesAModelThatIsWrong) {
  const auto table = ParameterTable::Create(Gpt2(1, 10, 3, 5, 11));
  ASSERT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(table.status().message().data(), table.status().message().size()),
            "model.heads is 3, which doesn't divide hidden 10; use hidden 9 or 12, or heads 2 or 5");
  EXPECT_FALSE(ParameterTable::Create(v1::ModelSpec()).ok());
}

}  // namespace
}  // namespace penstock
