#include "core/model/model_rules.h"

#include <string>
#include <vector>

#include "core/model/model_limits.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

v1::ModelSpec Model() {
  v1::ModelSpec model;
  model.set_family(v1::ModelSpec::FAMILY_GPT2);
  model.set_layers(2);
  model.set_hidden(16);
  model.set_heads(2);
  model.set_seq_length(8);
  model.set_vocab_size(256);
  return model;
}

std::vector<std::string> Fields(const v1::ModelSpec& model) {
  Violations violations;
  CheckModel(model, &violations);
  std::vector<std::string> fields;
  for (const v1::JobViolation& violation : violations.list()) fields.push_back(violation.field());
  return fields;
}

TEST(ModelRulesTest, DefaultsMakeAModelSound) {
  v1::ModelSpec model = Model();
  EXPECT_FALSE(Fields(model).empty());
  FillModelDefaults(&model);
  EXPECT_TRUE(Fields(model).empty());
  EXPECT_EQ(model.mlp_hidden(), 64u);
}

TEST(ModelRulesTest, WhatAFolderSaysIsLeftToIt) {
  v1::ModelSpec model = Model();
  FillModelDefaults(&model);
  EXPECT_FALSE(AwaitsFolder(model));
  model.set_from("gpt2");
  EXPECT_FALSE(AwaitsFolder(model));
  model.clear_mlp_hidden();
  FillModelDefaults(&model);
  EXPECT_FALSE(model.has_mlp_hidden());
  EXPECT_TRUE(AwaitsFolder(model));
  // Nothing is built from what isn't known.
  EXPECT_FALSE(Fields(model).empty());
}

TEST(ModelRulesTest, LimitsAreInclusive) {
  v1::ModelSpec model = Model();
  FillModelDefaults(&model);
  model.set_vocab_size(kVocabSizeMax);
  EXPECT_TRUE(Fields(model).empty());
  model.set_vocab_size(kVocabSizeMax + 1);
  EXPECT_EQ(Fields(model), std::vector<std::string>{"model.vocab_size"});
}

TEST(ModelRulesTest, TheWholeIsLimitedToo) {
  v1::ModelSpec model = Model();
  model.set_layers(kLayersMax);
  model.set_hidden(kHiddenMax);
  FillModelDefaults(&model);
  EXPECT_EQ(Fields(model), std::vector<std::string>{"model"});
}

TEST(ModelRulesTest, AHiddenSizeThatWouldWrapIsRefusedOnce) {
  v1::ModelSpec model = Model();
  model.set_hidden(1u << 30);
  FillModelDefaults(&model);
  EXPECT_EQ(Fields(model), std::vector<std::string>{"model.hidden"});
}

TEST(ViolationsTest, HasLooksIntoFields) {
  Violations violations;
  violations.Add("parallel.zero.stage", "is wrong");
  EXPECT_TRUE(violations.Has("parallel"));
  EXPECT_TRUE(violations.Has("parallel.zero"));
  EXPECT_TRUE(violations.Has("parallel.zero.stage"));
  EXPECT_FALSE(violations.Has("parallel.zer"));
  EXPECT_FALSE(violations.Has("parallel.zero.stage.x"));
  EXPECT_FALSE(violations.Has("model"));
}

TEST(ViolationsTest, IntervalsKeepTheirEnds) {
  const Interval closed{.low = 0, .high = 1};
  EXPECT_TRUE(closed.Contains(0));
  EXPECT_TRUE(closed.Contains(1));
  const Interval open{.low = 0, .high = 1, .low_open = true, .high_open = true};
  EXPECT_FALSE(open.Contains(0));
  EXPECT_FALSE(open.Contains(1));
  EXPECT_EQ(open.ToString(), "above 0 and below 1");
}

}  // namespace
}  // namespace penstock
