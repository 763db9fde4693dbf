#include "core/plan/job_rules.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/parameter_table.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;

v1::JobSpec Sound() {
  v1::JobSpec spec;
  spec.set_name("first");
  spec.mutable_model()->set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.mutable_model()->set_layers(4);
  spec.mutable_model()->set_hidden(256);
  spec.mutable_model()->set_heads(4);
  spec.mutable_model()->set_seq_length(128);
  spec.mutable_model()->set_vocab_size(256);
  spec.mutable_data()->set_path("corpus.txt");
  spec.mutable_training()->set_steps(200);
  spec.mutable_training()->set_global_batch_size(32);
  spec.mutable_training()->set_micro_batch_size(4);
  spec.mutable_parallel()->set_data(2);
  spec.mutable_parallel()->set_pipeline(2);
  FillDefaults(&spec);
  return spec;
}

std::vector<std::string> Texts(const v1::JobSpec& spec) {
  std::vector<std::string> texts;
  for (const v1::JobViolation& violation : CheckJob(spec)) {
    texts.push_back(absl::StrCat(violation.field(), " ", violation.message()));
  }
  return texts;
}

std::vector<std::string> Fields(const v1::JobSpec& spec) {
  std::vector<std::string> fields;
  for (const v1::JobViolation& violation : CheckJob(spec)) fields.push_back(violation.field());
  return fields;
}

TEST(JobRulesTest, ASoundJobHasNoViolations) { EXPECT_THAT(Texts(Sound()), ElementsAre()); }

TEST(JobRulesTest, DefaultsKeepWhatIsThereAndAreIdempotent) {
  v1::JobSpec spec = Sound();
  EXPECT_EQ(spec.model().mlp_hidden(), 1024u);
  EXPECT_EQ(spec.optimizer().weight_decay(), 0.01);
  EXPECT_EQ(spec.parallel().zero().stage(), 1u);
  EXPECT_EQ(spec.parallel().zero().placement(), v1::ZeroSpec::PLACEMENT_AUTO);
  EXPECT_EQ(spec.parallel().device(), v1::ParallelSpec::DEVICE_AUTO);
  v1::JobSpec again = spec;
  FillDefaults(&again);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, again));

  // Zeros that a user wrote stay.
  v1::JobSpec zeros;
  zeros.mutable_optimizer()->set_weight_decay(0);
  zeros.mutable_optimizer()->set_grad_clip(0);
  zeros.mutable_optimizer()->set_beta1(0);
  zeros.mutable_data()->set_validation_ratio(0);
  zeros.mutable_training()->set_seed(0);
  zeros.mutable_training()->set_validate_every_steps(0);
  zeros.mutable_checkpoint()->set_keep(0);
  zeros.mutable_parallel()->mutable_zero()->set_stage(0);
  FillDefaults(&zeros);
  EXPECT_EQ(zeros.optimizer().weight_decay(), 0);
  EXPECT_EQ(zeros.optimizer().grad_clip(), 0);
  EXPECT_EQ(zeros.optimizer().beta1(), 0);
  EXPECT_EQ(zeros.data().validation_ratio(), 0);
  EXPECT_EQ(zeros.training().seed(), 0u);
  EXPECT_EQ(zeros.training().validate_every_steps(), 0u);
  EXPECT_EQ(zeros.checkpoint().keep(), 0u);
  EXPECT_EQ(zeros.parallel().zero().stage(), 0u);
}

TEST(JobRulesTest, AnEmptyJobListsEverythingThatIsMissing) {
  v1::JobSpec spec;
  FillDefaults(&spec);
  EXPECT_THAT(Fields(spec), ElementsAre("name", "model.family", "model.layers", "model.hidden", "model.heads",
                                        "model.seq_length", "model.vocab_size", "data.path", "training.steps",
                                        "training.global_batch_size", "training.micro_batch_size"));
}

// One wrong value at a time; the field is named, alone.
TEST(JobRulesTest, EveryValueOutOfRangeIsNamed) {
  struct Case {
    std::string field;
    std::function<void(v1::JobSpec*)> damage;
  };
  const double nan = std::nan("");
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<Case> cases = {
      {"name", [](v1::JobSpec* s) { s->set_name("a/b"); }},
      {"name", [](v1::JobSpec* s) { s->set_name("../x"); }},
      {"name", [](v1::JobSpec* s) { s->set_name(std::string(64, 'a')); }},
      {"model.family", [](v1::JobSpec* s) { s->mutable_model()->set_family(static_cast<v1::ModelSpec::Family>(9)); }},
      {"model.layers", [](v1::JobSpec* s) { s->mutable_model()->set_layers(4000000000u); }},
      {"model.hidden", [](v1::JobSpec* s) { s->mutable_model()->set_hidden(0); }},
      {"model.heads", [](v1::JobSpec* s) { s->mutable_model()->set_heads(5); }},
      {"model.seq_length", [](v1::JobSpec* s) { s->mutable_model()->set_seq_length(4294967295u); }},
      {"model.vocab_size", [](v1::JobSpec* s) { s->mutable_model()->set_vocab_size(4294967295u); }},
      {"model.mlp_hidden", [](v1::JobSpec* s) { s->mutable_model()->set_mlp_hidden(0); }},
      {"model.init_std", [](v1::JobSpec* s) { s->mutable_model()->set_init_std(0); }},
      {"model.init_std", [nan](v1::JobSpec* s) { s->mutable_model()->set_init_std(nan); }},
      {"model.layer_norm_epsilon", [inf](v1::JobSpec* s) { s->mutable_model()->set_layer_norm_epsilon(inf); }},
      {"data.path", [](v1::JobSpec* s) { s->mutable_data()->clear_path(); }},
      {"data.path", [](v1::JobSpec* s) { s->mutable_data()->set_path(std::string(5000, 'p')); }},
      {"data.path", [](v1::JobSpec* s) { s->mutable_data()->set_path(std::string("a\0b", 3)); }},
      {"data.format", [](v1::JobSpec* s) { s->mutable_data()->set_format(static_cast<v1::DataSpec::Format>(7)); }},
      {"training.dropout", [](v1::JobSpec* s) { s->mutable_training()->set_dropout(1); }},
      {"training.dropout", [](v1::JobSpec* s) { s->mutable_training()->set_dropout(-0.1); }},
      {"training.dropout", [nan](v1::JobSpec* s) { s->mutable_training()->set_dropout(nan); }},
      {"data.validation_ratio", [](v1::JobSpec* s) { s->mutable_data()->set_validation_ratio(1); }},
      {"data.validation_ratio", [](v1::JobSpec* s) { s->mutable_data()->set_validation_ratio(-0.1); }},
      {"data.validation_ratio", [nan](v1::JobSpec* s) { s->mutable_data()->set_validation_ratio(nan); }},
      {"training.steps", [](v1::JobSpec* s) { s->mutable_training()->set_steps(0); }},
      {"training.steps", [](v1::JobSpec* s) { s->mutable_training()->set_steps(UINT64_MAX); }},
      {"training.global_batch_size", [](v1::JobSpec* s) { s->mutable_training()->set_global_batch_size(4294967295u); }},
      {"training.global_batch_size", [](v1::JobSpec* s) { s->mutable_training()->set_global_batch_size(30); }},
      {"training.micro_batch_size", [](v1::JobSpec* s) { s->mutable_training()->set_micro_batch_size(0); }},
      {"training.precision",
       [](v1::JobSpec* s) { s->mutable_training()->set_precision(static_cast<v1::TrainingSpec::Precision>(5)); }},
      {"training.validation_samples", [](v1::JobSpec* s) { s->mutable_training()->set_validation_samples(0); }},
      {"optimizer.learning_rate", [](v1::JobSpec* s) { s->mutable_optimizer()->set_learning_rate(-1); }},
      {"optimizer.learning_rate", [nan](v1::JobSpec* s) { s->mutable_optimizer()->set_learning_rate(nan); }},
      {"optimizer.beta1", [](v1::JobSpec* s) { s->mutable_optimizer()->set_beta1(1); }},
      {"optimizer.beta2", [](v1::JobSpec* s) { s->mutable_optimizer()->set_beta2(0.99999999); }},
      {"optimizer.epsilon", [](v1::JobSpec* s) { s->mutable_optimizer()->set_epsilon(1e-50); }},
      {"optimizer.weight_decay", [inf](v1::JobSpec* s) { s->mutable_optimizer()->set_weight_decay(inf); }},
      {"optimizer.weight_decay", [](v1::JobSpec* s) { s->mutable_optimizer()->set_weight_decay(1000); }},
      {"optimizer.grad_clip", [](v1::JobSpec* s) { s->mutable_optimizer()->set_grad_clip(-1); }},
      {"optimizer.schedule.final_ratio",
       [](v1::JobSpec* s) { s->mutable_optimizer()->mutable_schedule()->set_final_ratio(1.5); }},
      {"optimizer.schedule.final_ratio",
       [](v1::JobSpec* s) {
         s->mutable_optimizer()->mutable_schedule()->set_type(v1::LearningRateSchedule::TYPE_CONSTANT);
       }},
      {"optimizer.schedule.warmup_steps",
       [](v1::JobSpec* s) { s->mutable_optimizer()->mutable_schedule()->set_warmup_steps(201); }},
      {"parallel.data", [](v1::JobSpec* s) { s->mutable_parallel()->set_data(0); }},
      {"parallel.tensor", [](v1::JobSpec* s) { s->mutable_parallel()->set_tensor(0); }},
      {"parallel.tensor", [](v1::JobSpec* s) { s->mutable_parallel()->set_tensor(4294967295u); }},
      {"parallel.tensor", [](v1::JobSpec* s) { s->mutable_parallel()->set_tensor(3); }},
      {"parallel", [](v1::JobSpec* s) { s->mutable_parallel()->set_data(4096); }},
      {"parallel.pipeline", [](v1::JobSpec* s) { s->mutable_parallel()->set_pipeline(5); }},
      {"parallel.schedule",
       [](v1::JobSpec* s) { s->mutable_parallel()->set_schedule(static_cast<v1::ParallelSpec::Schedule>(9)); }},
      {"parallel.zero.stage", [](v1::JobSpec* s) { s->mutable_parallel()->mutable_zero()->set_stage(3); }},
      {"parallel.shards", [](v1::JobSpec* s) { s->mutable_parallel()->set_shards(4294967295u); }},
      {"checkpoint.every_steps", [](v1::JobSpec* s) { s->mutable_checkpoint()->set_every_steps(10); }},
      {"checkpoint.resume",
       [](v1::JobSpec* s) { s->mutable_checkpoint()->set_resume(v1::CheckpointSpec::RESUME_PATH); }},
      {"checkpoint.resume_path", [](v1::JobSpec* s) { s->mutable_checkpoint()->set_resume_path("x"); }},
  };
  for (const Case& wrong : cases) {
    v1::JobSpec spec = Sound();
    wrong.damage(&spec);
    EXPECT_THAT(Fields(spec), ElementsAre(wrong.field));
  }
}

TEST(JobRulesTest, TensorRanksNeedWholeHeadsEqualPartsOfTheMlpAndAToken) {
  v1::JobSpec spec = Sound();
  spec.mutable_parallel()->set_tensor(4);
  // A vocabulary may be uneven.
  spec.mutable_model()->set_vocab_size(257);
  EXPECT_THAT(Texts(spec), ElementsAre());
  spec.mutable_model()->set_vocab_size(3);
  EXPECT_THAT(Texts(spec),
              ElementsAre("parallel.tensor is 4, but model.vocab_size is 3: each tensor rank needs a token; "
                          "use at most 3"));
  spec = Sound();
  spec.mutable_parallel()->set_tensor(8);
  EXPECT_THAT(Texts(spec),
              ElementsAre("parallel.tensor is 8, which doesn't divide model.heads 4; use tensor 4, or heads "
                          "8"));
  spec = Sound();
  spec.mutable_parallel()->set_tensor(2);
  spec.mutable_model()->set_mlp_hidden(1025);
  EXPECT_THAT(Texts(spec),
              ElementsAre("parallel.tensor is 2, which doesn't divide model.mlp_hidden 1025; use tensor 1, "
                          "or mlp_hidden 1024 or 1026"));
  spec = Sound();
  spec.mutable_parallel()->set_tensor(4);
  spec.mutable_parallel()->set_data(1024);
  spec.mutable_training()->set_global_batch_size(4096);
  EXPECT_THAT(Texts(spec),
              ElementsAre("parallel asks for data 1024 x pipeline 2 x tensor 4 = 8192 workers; at most 4096 "
                          "are supported"));
}

TEST(JobRulesTest, MessagesSayWhatWouldBeRight) {
  v1::JobSpec spec = Sound();
  spec.mutable_model()->set_hidden(250);
  EXPECT_THAT(Texts(spec), ElementsAre("model.heads is 4, which doesn't divide hidden 250; use hidden 248 or 252, or "
                                       "heads 2 or 5"));
  spec = Sound();
  spec.mutable_training()->set_global_batch_size(30);
  EXPECT_THAT(Texts(spec), ElementsAre("training.global_batch_size is 30, which is not a multiple of data 2 x "
                                       "micro_batch_size 4 = 8; use 24 or 32"));
  spec.mutable_training()->set_global_batch_size(6);
  EXPECT_THAT(Texts(spec), ElementsAre("training.global_batch_size is 6, which is not a multiple of data 2 x "
                                       "micro_batch_size 4 = 8; use 8"));
  spec = Sound();
  spec.mutable_parallel()->set_pipeline(8);
  EXPECT_THAT(Texts(spec), ElementsAre("parallel.pipeline is 8, but the model has 4 layers and each stage needs one; "
                                       "use at most 4, or more layers"));
  spec = Sound();
  spec.mutable_data()->set_validation_ratio(std::nan(""));
  EXPECT_THAT(Texts(spec), ElementsAre("data.validation_ratio is nan; must be at least 0 and below 1"));
}

// The largest values that pass must be safe to build a table from: no size may wrap around.
TEST(JobRulesTest, TheLargestModelsOverflowNothing) {
  for (const uint32_t hidden : {1u, 4096u, 65536u}) {
    for (const uint32_t layers : {1u, 64u, 4096u}) {
      v1::JobSpec spec = Sound();
      spec.mutable_model()->set_hidden(hidden);
      spec.mutable_model()->set_heads(1);
      spec.mutable_model()->set_layers(layers);
      spec.mutable_model()->set_vocab_size(1u << 22);
      spec.mutable_model()->set_seq_length(1u << 17);
      spec.mutable_model()->set_mlp_hidden(1u << 19);
      spec.mutable_parallel()->set_pipeline(1);
      if (!CheckJob(spec).empty()) continue;
      const auto table = ParameterTable::Create(spec.model());
      ASSERT_TRUE(table.ok());
      double elements = 0;
      for (const Parameter& parameter : table->parameters()) {
        double product = 1;
        for (const int64_t extent : parameter.shape) product *= static_cast<double>(extent);
        EXPECT_EQ(static_cast<double>(parameter.size()), product);
        elements += product;
      }
      EXPECT_EQ(static_cast<double>(table->size()), elements);
      for (const Block& block : table->blocks()) EXPECT_GE(block.activation_bytes_per_sample, 0);
    }
  }
}

TEST(JobRulesTest, TooManyCellsAndActivationsAreRefused) {
  v1::JobSpec spec = Sound();
  spec.mutable_model()->set_layers(4096);
  spec.mutable_parallel()->set_pipeline(1024);
  spec.mutable_parallel()->set_data(1);
  spec.mutable_training()->set_global_batch_size(1u << 20);
  spec.mutable_training()->set_micro_batch_size(1);
  EXPECT_THAT(Fields(spec), ElementsAre("training.micro_batch_size"));
  spec = Sound();
  spec.mutable_model()->set_seq_length(1u << 17);
  spec.mutable_model()->set_mlp_hidden(1u << 19);
  spec.mutable_training()->set_global_batch_size(1u << 17);
  spec.mutable_training()->set_micro_batch_size(1u << 16);
  EXPECT_THAT(Fields(spec), ElementsAre("training.micro_batch_size"));
}

TEST(JobRulesTest, JobNames) {
  for (const char* good : {"a", "first", "0", "A-b_c.9", "gpt2.small-2026"}) EXPECT_TRUE(IsValidJobName(good)) << good;
  for (const char* bad : {"", ".", "..", "-a", "_a", "a b", "a/b", "\xc3\xa9", "a\n"})
    EXPECT_FALSE(IsValidJobName(bad)) << bad;
}

TEST(JobRulesTest, PlacementsAndWhatGoesWithThem) {
  const auto violations_of = [](const std::function<void(v1::ZeroSpec&)>& change) {
    v1::JobSpec spec = Sound();
    spec.mutable_parallel()->clear_zero();
    change(*spec.mutable_parallel()->mutable_zero());
    FillDefaults(&spec);
    std::vector<std::string> fields;
    for (const v1::JobViolation& violation : CheckJob(spec)) fields.push_back(violation.field());
    return fields;
  };
  using Fields = std::vector<std::string>;
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) { zero.set_placement(v1::ZeroSpec::PLACEMENT_LOCAL); }), Fields());
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) {
              zero.set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
              zero.set_mirror(v1::ZeroSpec::MIRROR_OFF);
            }),
            Fields());
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) {
              zero.set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
              zero.set_mirror(v1::ZeroSpec::MIRROR_OFF);
              zero.set_mirror_lag(2);
            }),
            Fields({"parallel.zero.mirror_lag"}));
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) {
              zero.set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
              zero.set_mirror_lag(0);
            }),
            Fields({"parallel.zero.mirror_lag"}));
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) {
              zero.set_mirror(v1::ZeroSpec::MIRROR_ON);
              zero.set_mirror_lag(2);
            }),
            Fields({"parallel.zero.mirror", "parallel.zero.mirror_lag"}));
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) {
              zero.set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
              zero.set_offload(v1::ZeroSpec::OFFLOAD_HOST);
            }),
            Fields());
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) { zero.set_offload(v1::ZeroSpec::OFFLOAD_HOST); }),
            Fields({"parallel.zero.offload"}));
  EXPECT_EQ(violations_of([](v1::ZeroSpec& zero) {
              zero.set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
              zero.set_offload(static_cast<v1::ZeroSpec::Offload>(7));
            }),
            Fields({"parallel.zero.offload"}));
}

}  // namespace
}  // namespace penstock
