#include "services/jobfile/job_file.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace penstock {
namespace {

using google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kFirst[] = R"(name: first
model: {family: gpt2, layers: 4, hidden: 256, heads: 4, seq_length: 128, vocab_size: 256}
data: {path: corpus.txt, format: bytes}
training: {steps: 200, global_batch_size: 32, micro_batch_size: 4, precision: fp32, seed: 1}
optimizer: {type: adamw, learning_rate: 1e-3, weight_decay: 0.1, grad_clip: 1.0, schedule: {type: cosine, warmup_steps: 20}}
parallel: {data: 2, tensor: 1, pipeline: 2, schedule: 1f1b, zero: {stage: 1, placement: service}}
checkpoint: {directory: checkpoints, every_steps: 100, keep: 3}
)";

JobFile Parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  auto file = ParseJobFile(text, "job.yaml", overrides);
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : JobFile();
}

std::string ErrorOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto file = ParseJobFile(text, "job.yaml", overrides);
  EXPECT_TRUE(absl::IsInvalidArgument(file.status())) << text;
  return std::string(file.status().message());
}

TEST(JobFileTest, ReadsEveryField) {
  const JobFile file = Parse(kFirst);
  const v1::JobSpec& spec = file.spec;
  EXPECT_EQ(spec.name(), "first");
  EXPECT_EQ(spec.model().family(), v1::ModelSpec::FAMILY_GPT2);
  EXPECT_EQ(spec.model().heads(), 4u);
  EXPECT_EQ(spec.data().path(), "corpus.txt");
  EXPECT_EQ(spec.data().format(), v1::DataSpec::FORMAT_BYTES);
  EXPECT_EQ(spec.training().steps(), 200u);
  EXPECT_EQ(spec.optimizer().learning_rate(), 1e-3);
  EXPECT_EQ(spec.optimizer().schedule().type(), v1::LearningRateSchedule::TYPE_COSINE);
  EXPECT_EQ(spec.parallel().schedule(), v1::ParallelSpec::SCHEDULE_1F1B);
  EXPECT_EQ(spec.parallel().zero().placement(), v1::ZeroSpec::PLACEMENT_SERVICE);
  EXPECT_EQ(spec.checkpoint().keep(), 3u);
  // And the defaults of what isn't there.
  EXPECT_EQ(spec.model().mlp_hidden(), 1024u);
  EXPECT_NE(spec.checkpoint().resume(), v1::CheckpointSpec::RESUME_UNSPECIFIED);
  EXPECT_TRUE(CheckJobFile(file).ok()) << CheckJobFile(file);
}

TEST(JobFileTest, AZeroThatWasWrittenStays) {
  const JobFile file =
      Parse(std::string(kFirst), {"optimizer.grad_clip=0", "checkpoint.keep=0", "parallel.zero.stage=0"});
  EXPECT_EQ(file.spec.optimizer().grad_clip(), 0);
  EXPECT_EQ(file.spec.checkpoint().keep(), 0u);
  EXPECT_EQ(file.spec.parallel().zero().stage(), 0u);
}

TEST(JobFileTest, NumbersAsPeopleWriteThem) {
  const auto rate = [](const std::string& text) {
    return Parse("optimizer: {learning_rate: " + text + "}").spec.optimizer().learning_rate();
  };
  EXPECT_EQ(rate("1e-3"), 1e-3);
  EXPECT_EQ(rate("1E-3"), 1e-3);
  EXPECT_EQ(rate(".5"), 0.5);
  EXPECT_EQ(rate("2"), 2.0);
  EXPECT_EQ(rate("+2."), 2.0);
  EXPECT_EQ(rate("-0.25"), -0.25);
  const std::string double_error = "a number such as 0.1 or 1e-3 is expected";
  for (const std::string text :
       {"fast", "1e", "1e-3x", "\"1e-3\"", "[1]", "{a: 1}", "~", "nan", ".inf", "inf", "0x1p3"}) {
    EXPECT_THAT(ErrorOf("optimizer: {learning_rate: " + text + "}"), HasSubstr(double_error)) << text;
  }
  EXPECT_THAT(ErrorOf("optimizer: {learning_rate: 1e999}"), HasSubstr("beyond what a double can hold"));

  EXPECT_EQ(Parse("training: {seed: 18446744073709551615}").spec.training().seed(), 18446744073709551615u);
  EXPECT_EQ(Parse("training: {seed: 0}").spec.training().seed(), 0u);
  const auto steps_error = [](const std::string& text) { return ErrorOf("training: {steps: " + text + "}"); };
  EXPECT_EQ(steps_error("1e3"), "job.yaml:1: training.steps: is 1e3; write it as 1000");
  EXPECT_EQ(steps_error("-1"), "job.yaml:1: training.steps: is -1; a whole number of 0 or more is expected");
  EXPECT_THAT(steps_error("1.5"), HasSubstr("is 1.5; a whole number is expected"));
  EXPECT_THAT(steps_error("\"5\""), HasSubstr("is the text \"5\"; write it as 5"));
  EXPECT_THAT(steps_error("010"), HasSubstr("is 010; write it as 10"));
  EXPECT_THAT(steps_error("0x10"), HasSubstr("a whole number is expected"));
  EXPECT_THAT(steps_error("1_000"), HasSubstr("a whole number is expected"));
  EXPECT_THAT(steps_error("true"), HasSubstr("a whole number is expected"));
  EXPECT_THAT(steps_error("18446744073709551616"), HasSubstr("at most 18446744073709551615 is possible"));
  EXPECT_THAT(steps_error("[]"), HasSubstr("is a list; a whole number is expected"));
  EXPECT_THAT(steps_error(""), HasSubstr("has no value"));
  EXPECT_THAT(ErrorOf("model: {layers: 4294967296}"), HasSubstr("is 4294967296; at most 4294967295 is possible"));
}

TEST(JobFileTest, UnknownKeysAreExplained) {
  EXPECT_EQ(ErrorOf("name: x\nmodel:\n  head: 4\n"),
            "job.yaml:3: model.head: there is no such field; did you mean `heads`?");
  EXPECT_EQ(ErrorOf("heads: 4\n"), "job.yaml:1: heads: there is no such field here; did you mean `model.heads`?");
  EXPECT_EQ(ErrorOf("data: {dropout: 4}\n"),
            "job.yaml:1: data.dropout: there is no such field here; did you mean `training.dropout`?");
  EXPECT_EQ(ErrorOf("data: {epochs: 4}\n"),
            "job.yaml:1: data.epochs: there is no such field; the fields here are path, format, validation_ratio");
  EXPECT_THAT(ErrorOf("checkpoint: {resume_path: x}"), HasSubstr("write the path as checkpoint.resume"));
  EXPECT_THAT(ErrorOf("model: {<<: {heads: 3}}"), HasSubstr("merge keys aren't read"));
  EXPECT_THAT(ErrorOf("[a]: 3"), HasSubstr("a key that isn't a name"));
}

TEST(JobFileTest, WrongKindsAreExplained) {
  EXPECT_THAT(ErrorOf("model: gpt2"), HasSubstr("job.yaml:1: model: is gpt2; a map is expected, with family, layers"));
  EXPECT_THAT(ErrorOf("model:\nname: x\n"), HasSubstr("job.yaml:1: model: has no value; a map is expected"));
  EXPECT_THAT(ErrorOf("model: [1, 2]"), HasSubstr("is a list; a map is expected"));
  EXPECT_THAT(ErrorOf("name: {a: b}"), HasSubstr("name: is a map; a text is expected"));
  EXPECT_THAT(ErrorOf("- a\n- b\n"), HasSubstr("job.yaml:1: is a list; a job is a map with name, model"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("job.yaml:1: is empty; a job is a map"));
  EXPECT_THAT(ErrorOf("just words"), HasSubstr("is just words; a job is a map"));
  EXPECT_THAT(ErrorOf("name: \"a\\nb\""), HasSubstr("control characters"));
  EXPECT_THAT(ErrorOf("name: " + std::string(5000, 'a')), HasSubstr("has 5000 bytes; at most 4096"));
}

TEST(JobFileTest, EnumValuesAreExplained) {
  EXPECT_EQ(ErrorOf("parallel: {schedule: 1f1}"),
            "job.yaml:1: parallel.schedule: is 1f1; did you mean `1f1b`?; use gpipe, 1f1b");
  EXPECT_EQ(ErrorOf("parallel: {schedule: zigzag}"), "job.yaml:1: parallel.schedule: is zigzag; use gpipe, 1f1b");
  EXPECT_EQ(ErrorOf("model: {family: llama}"), "job.yaml:1: model.family: is llama; this version knows only `gpt2`");
  EXPECT_THAT(ErrorOf("model: {family: family_gpt2}"), HasSubstr("knows only"));
  EXPECT_THAT(ErrorOf("model: {family: unspecified}"), HasSubstr("knows only"));
  EXPECT_THAT(ErrorOf("model: {family: [gpt2]}"), HasSubstr("is a list"));
  EXPECT_EQ(Parse("model: {\"family\": \"gpt2\"}").spec.model().family(), v1::ModelSpec::FAMILY_GPT2);
}

TEST(JobFileTest, DoubledKeysAreRefused) {
  EXPECT_EQ(ErrorOf("name: a\nmodel: {layers: 1,\n layers: 2}\nname: b\n"),
            "job.yaml:3: model.layers: comes twice, first on line 2; keep one of them\n"
            "job.yaml:4: name: comes twice, first on line 1; keep one of them");
}

TEST(JobFileTest, AllErrorsAtOnceInOrder) {
  const std::string error = ErrorOf("nam: x\nmodel:\n  layers: many\n  head: 2\ntraining: 5\n");
  EXPECT_THAT(error, StartsWith("job.yaml:1: nam: there is no such field; did you mean `name`?\n"
                                "job.yaml:3: model.layers: is many; a whole number is expected\n"
                                "job.yaml:4: model.head: there is no such field; did you mean `heads`?\n"
                                "job.yaml:5: training: is 5; a map is expected"));
  std::string many = "model:\n";
  for (int i = 0; i < 200; ++i) many += "  zzz" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(ErrorOf(many), HasSubstr("\n... and 150 more"));
}

TEST(JobFileTest, BrokenYamlHasItsLine) {
  EXPECT_THAT(ErrorOf("name: x\nmodel: {layers: 1\ndata: {}\n"), StartsWith("job.yaml:"));
  EXPECT_THAT(ErrorOf("name: x\n---\nname: y\n"), HasSubstr("job.yaml:3: a second document"));
  EXPECT_THAT(ErrorOf(std::string(300'000, '#')), HasSubstr("has more than 262144 bytes"));
  EXPECT_THAT(ErrorOf(std::string(100'000, '[')), StartsWith("job.yaml"));
}

TEST(JobFileTest, ParallelAutoLeavesTheMeshOpen) {
  const auto parallel = [](const std::string& text, const std::vector<std::string>& overrides) {
    const auto file = ParseJobFile(text, "job.yaml", overrides);
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? file->spec.parallel() : v1::ParallelSpec();
  };
  for (const v1::ParallelSpec& open :
       {parallel("name: x\nparallel: auto\n", {}), parallel("name: x\nparallel: {data: 2}\n", {"parallel=auto"})}) {
    EXPECT_EQ(open.plan(), v1::ParallelSpec::PLAN_AUTO);
    EXPECT_FALSE(open.has_data());
    EXPECT_FALSE(open.has_pipeline());
    EXPECT_EQ(open.schedule(), v1::ParallelSpec::SCHEDULE_UNSPECIFIED);
    EXPECT_EQ(open.zero().stage(), 1u);
  }
  // Some of it may be given.
  const v1::ParallelSpec partly = parallel("name: x\nparallel: {plan: auto, pipeline: 2}\n", {});
  EXPECT_EQ(partly.plan(), v1::ParallelSpec::PLAN_AUTO);
  EXPECT_EQ(partly.pipeline(), 2u);
  EXPECT_FALSE(partly.has_data());
  EXPECT_THAT(ErrorOf("name: x\nparallel: automatic\n"), HasSubstr("job.yaml:2: parallel: is automatic; a map"));
}

TEST(JobFileTest, ResumeIsAWordOrAPath) {
  const auto checkpoint = [](const std::string& value) {
    return Parse("checkpoint: {directory: d, resume: " + value + "}").spec.checkpoint();
  };
  EXPECT_EQ(checkpoint("auto").resume(), v1::CheckpointSpec::RESUME_AUTO);
  EXPECT_EQ(checkpoint("never").resume(), v1::CheckpointSpec::RESUME_NEVER);
  EXPECT_EQ(checkpoint("a/step-00000100").resume(), v1::CheckpointSpec::RESUME_PATH);
  EXPECT_EQ(checkpoint("a/step-00000100").resume_path(), "a/step-00000100");
  EXPECT_THAT(ErrorOf("checkpoint: {resume: }"), HasSubstr("use auto, never, or the path of a checkpoint"));
  // An override takes the path away again.
  const JobFile file = Parse("checkpoint: {resume: a/b}", {"checkpoint.resume=never"});
  EXPECT_EQ(file.spec.checkpoint().resume(), v1::CheckpointSpec::RESUME_NEVER);
  EXPECT_EQ(file.spec.checkpoint().resume_path(), "");
}

TEST(JobFileTest, OverridesComeLast) {
  const JobFile file = Parse(kFirst, {"training.steps=7", "model.layers=2", "model.layers=6", "name=other",
                                      "parallel={pipeline: 3, zero: {stage: 0}}", "optimizer.learning_rate=2e-4"});
  EXPECT_EQ(file.spec.training().steps(), 7u);
  EXPECT_EQ(file.spec.model().layers(), 6u);
  EXPECT_EQ(file.spec.name(), "other");
  EXPECT_EQ(file.spec.parallel().pipeline(), 3u);
  // A map adds to what is there.
  EXPECT_EQ(file.spec.parallel().data(), 2u);
  EXPECT_EQ(file.spec.optimizer().learning_rate(), 2e-4);
  EXPECT_EQ(file.PositionOf("training.steps"), "--set training.steps");
  EXPECT_EQ(file.PositionOf("model.heads"), "job.yaml:2");
  EXPECT_EQ(file.PositionOf("parallel.zero.stage"), "--set parallel");
  // What is missing is missing in the file.
  EXPECT_EQ(file.PositionOf("training.validate_every_steps"), "job.yaml:4");
}

TEST(JobFileTest, BadOverridesAreExplained) {
  EXPECT_EQ(ErrorOf(kFirst, {"model.head=3"}),
            "--set model.head: model.head: there is no such field; did you mean `heads`?");
  EXPECT_THAT(ErrorOf(kFirst, {"training.steps=many"}), HasSubstr("--set training.steps: training.steps: is many"));
  EXPECT_THAT(ErrorOf(kFirst, {"training.steps"}), HasSubstr("isn't of the form FIELD=VALUE"));
  EXPECT_THAT(ErrorOf(kFirst, {"=3"}), HasSubstr("isn't of the form FIELD=VALUE"));
  EXPECT_THAT(ErrorOf(kFirst, {"training.steps="}), HasSubstr("has no value"));
  EXPECT_THAT(ErrorOf(kFirst, {"model..heads=3"}), HasSubstr("--set model..heads"));
  EXPECT_THAT(ErrorOf(kFirst, {"model={heads: "}), HasSubstr("--set model: model: isn't sound YAML"));
  EXPECT_THAT(ErrorOf(kFirst, {"training.steps.x=3"}), HasSubstr("is a map; a whole number is expected"));
  EXPECT_THAT(ErrorOf(kFirst, {std::string(100'000, '.') + "=1"}), HasSubstr("there is no such field"));
}

TEST(JobFileTest, ViolationsOfTheRulesHaveTheirLine) {
  const JobFile file = Parse("name: x\n" + std::string(kFirst).substr(12), {"optimizer.learning_rate=-1"});
  std::vector<v1::JobViolation> violations(4);
  violations[0].set_field("optimizer.learning_rate");
  violations[0].set_message("is wrong");
  violations[1].set_field("training.digest_every_steps");
  violations[1].set_message("isn't in the file");
  violations[2].set_field("model.heads");
  violations[2].set_message("is wrong; use 3");
  violations[3].set_field("nowhere.at.all");
  violations[3].set_message("is odd");
  EXPECT_EQ(std::string(ExplainViolations(file, violations).message()),
            "job.yaml:2: model.heads: is wrong; use 3\n"
            "job.yaml:4: training.digest_every_steps: isn't in the file\n"
            "--set optimizer.learning_rate: optimizer.learning_rate: is wrong\n"
            "job.yaml: nowhere.at.all: is odd");
  EXPECT_TRUE(ExplainViolations(file, {}).ok());
  EXPECT_THAT(std::string(CheckJobFile(file).message()), StartsWith("--set optimizer.learning_rate: "));
}

TEST(JobFileTest, AnEmptyJobNamesWhatIsMissing) {
  const absl::Status status = CheckJobFile(Parse("{}"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("job.yaml: name: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("job.yaml: training.steps: "));
}

TEST(JobFileTest, AliasesWork) {
  const JobFile file = Parse("training: {steps: &n 12, validate_every_steps: *n}");
  EXPECT_EQ(file.spec.training().validate_every_steps(), 12u);
}

TEST(JobFileTest, FormatReadsBackToTheSame) {
  v1::JobSpec spec = Parse(kFirst).spec;
  const auto round_trip = [](const v1::JobSpec& before) {
    const std::string text = FormatJob(before);
    const JobFile file = Parse(text);
    EXPECT_TRUE(MessageDifferencer::Equals(file.spec, before)) << text << "\n" << FormatJob(file.spec);
    return text;
  };
  EXPECT_THAT(round_trip(spec), HasSubstr("\n  schedule: 1f1b\n"));
  spec.mutable_optimizer()->set_learning_rate(0.1 + 0.2);
  spec.mutable_optimizer()->set_grad_clip(0);
  spec.mutable_training()->set_seed(18446744073709551615u);
  spec.mutable_checkpoint()->set_resume(v1::CheckpointSpec::RESUME_PATH);
  spec.mutable_checkpoint()->set_resume_path("/checkpoints/first/step-00000100");
  EXPECT_THAT(round_trip(spec), Not(HasSubstr("resume_path")));
  for (const std::string path : {"a b",
                                 "a: b",
                                 "# x",
                                 "\"q\"",
                                 "back\\slash",
                                 "~",
                                 "null",
                                 "-",
                                 "- a",
                                 "[x",
                                 "ü/ä.txt",
                                 "123",
                                 "true",
                                 " x ",
                                 "a\xe2\x80\xa8"
                                 "b",
                                 "%x",
                                 "@x",
                                 "&x",
                                 "*x",
                                 "!x",
                                 "'x'",
                                 "{}",
                                 "x #y",
                                 ".5"}) {
    spec.mutable_data()->set_path(path);
    spec.mutable_checkpoint()->set_resume_path(path);
    round_trip(spec);
  }
}

TEST(JobFileTest, FormatOfAnEmptyJobIsAMap) {
  EXPECT_EQ(FormatJob(v1::JobSpec()), "{}\n");
  v1::JobSpec spec;
  spec.mutable_parallel()->mutable_zero();
  EXPECT_EQ(FormatJob(spec), "parallel:\n  zero: {}\n");
}

TEST(JobFileTest, RelativePathsStartAtTheFolder) {
  v1::JobSpec spec = Parse(kFirst, {"checkpoint.resume=../other/step-00000001"}).spec;
  ResolvePaths(&spec, "/jobs/mine");
  EXPECT_EQ(spec.data().path(), "/jobs/mine/corpus.txt");
  EXPECT_EQ(spec.checkpoint().directory(), "/jobs/mine/checkpoints");
  EXPECT_EQ(spec.checkpoint().resume_path(), "/jobs/other/step-00000001");
  spec.mutable_data()->set_path("/absolute.txt");
  spec.mutable_checkpoint()->set_directory("");
  ResolvePaths(&spec, "/jobs/mine");
  EXPECT_EQ(spec.data().path(), "/absolute.txt");
  EXPECT_EQ(spec.checkpoint().directory(), "");
  v1::JobSpec nothing;
  ResolvePaths(&nothing, "/jobs/mine");
  EXPECT_TRUE(MessageDifferencer::Equals(nothing, v1::JobSpec()));
}

TEST(JobFileTest, ReadsFiles) {
  const std::string path = ::testing::TempDir() + "/job_file_test.yaml";
  std::ofstream(path) << kFirst;
  const auto file = ReadJobFile(path, {});
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->PositionOf("data.path"), path + ":3");
  EXPECT_EQ(*FolderOf(path), std::filesystem::path(path).parent_path().lexically_normal().string());
  EXPECT_TRUE(absl::IsNotFound(ReadJobFile("/no/job.yaml", {}).status()));
  EXPECT_THAT(std::string(ReadJobFile("/no/job.yaml", {}).status().message()), HasSubstr("/no/job.yaml"));
  EXPECT_FALSE(ReadJobFile(::testing::TempDir(), {}).ok());
  EXPECT_EQ(*FolderOf("-"), std::filesystem::current_path().string());
}

// The reader knows the schema's types by reflection; should the schema get a new one, this says so.
TEST(JobFileTest, EveryTypeOfTheSchemaCanBeRead) {
  using google::protobuf::FieldDescriptor;
  std::vector<const google::protobuf::Descriptor*> types = {v1::JobSpec::descriptor()};
  while (!types.empty()) {
    const google::protobuf::Descriptor& type = *types.back();
    types.pop_back();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      EXPECT_FALSE(field.is_repeated()) << field.full_name();
      switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
          types.push_back(field.message_type());
          break;
        case FieldDescriptor::CPPTYPE_UINT32:
        case FieldDescriptor::CPPTYPE_UINT64:
        case FieldDescriptor::CPPTYPE_DOUBLE:
        case FieldDescriptor::CPPTYPE_BOOL:
        case FieldDescriptor::CPPTYPE_ENUM:
        case FieldDescriptor::CPPTYPE_STRING:
          break;
        default:
          ADD_FAILURE() << field.full_name();
      }
    }
  }
}

}  // namespace
}  // namespace penstock
