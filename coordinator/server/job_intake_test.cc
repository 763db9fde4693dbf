#include "coordinator/server/job_intake.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "coordinator/server/small_job.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "services/checkpoint/catalog.h"
#include "services/checkpoint/writer.h"

namespace penstock {
namespace {

class JobIntakeTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "intakeXXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    root_ = folder;
    std::ofstream(root_ + "/corpus.txt") << std::string(20000, 'a');
    intake_ = std::make_unique<JobIntake>(root_, &LocalDisk());
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  static v1::JobSpec Spec() {
    v1::JobSpec spec = SmallJob("job", /*steps=*/10, /*global_batch_size=*/4);
    spec.mutable_checkpoint()->set_directory("checkpoints");
    return spec;
  }
  // A complete checkpoint of the job, with zeros in it.
  std::string WriteCheckpointOf(v1::JobSpec spec, uint64_t step) {
    FillDefaults(&spec);
    const auto table = ParameterTable::Create(spec.model());
    const auto partial =
        PrepareCheckpoint(LocalDisk(), JobCheckpointFolder(root_ + "/checkpoints", spec.name()), step, *table);
    EXPECT_TRUE(partial.ok()) << partial.status();
    std::vector<v1::PieceDigest> pieces(static_cast<size_t>(table->piece_count()));
    for (size_t piece = 0; piece < pieces.size(); ++piece) {
      pieces[piece].set_piece(piece);
      pieces[piece].set_digests(std::string(48, 'x'));
    }
    auto manifest = MakeManifest(spec, step, SamplesConsumed(spec, step), table->size(), pieces);
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    const auto path = FinishCheckpoint(LocalDisk(), *partial, *std::move(manifest));
    EXPECT_TRUE(path.ok()) << path.status();
    return *path;
  }
  void ExpectViolation(v1::JobSpec spec, const std::string& field, const std::string& part) {
    const auto violations = intake_->Prepare(&spec);
    ASSERT_FALSE(violations.empty()) << "expected one of " << field;
    EXPECT_EQ(violations[0].field(), field) << violations[0].message();
    EXPECT_NE(violations[0].message().find(part), std::string::npos) << violations[0].message();
  }
  void ExpectSound(v1::JobSpec spec) {
    for (const v1::JobViolation& violation : intake_->Prepare(&spec)) {
      ADD_FAILURE() << violation.field() << ": " << violation.message();
    }
  }

  std::string root_;
  std::unique_ptr<JobIntake> intake_;
};

TEST_F(JobIntakeTest, FillsInDefaultsAndRoots) {
  v1::JobSpec spec = Spec();
  EXPECT_TRUE(intake_->Prepare(&spec).empty());
  EXPECT_EQ(spec.data().path(), root_ + "/corpus.txt");
  EXPECT_EQ(spec.checkpoint().directory(), root_ + "/checkpoints");
  EXPECT_TRUE(spec.optimizer().has_learning_rate());
  spec = Spec();
  spec.mutable_data()->set_path(root_ + "/./corpus.txt");
  EXPECT_TRUE(intake_->Prepare(&spec).empty());
  EXPECT_EQ(spec.data().path(), root_ + "/corpus.txt") << "an absolute path stays where it is";
}

TEST_F(JobIntakeTest, WhatIsWrongIsSaidByField) {
  v1::JobSpec spec = Spec();
  spec.mutable_model()->set_heads(3);
  ExpectViolation(spec, "model.heads", "");
  spec = Spec();
  spec.mutable_data()->set_path("none.txt");
  ExpectViolation(spec, "data.path", root_ + "/none.txt");
  spec = Spec();
  spec.mutable_model()->set_vocab_size(90);  // 'a' is 97
  ExpectViolation(spec, "model.vocab_size", "97");
}

TEST_F(JobIntakeTest, ACheckpointToResumeFromHasToFitTheJob) {
  const std::string path = WriteCheckpointOf(Spec(), 6);
  ExpectSound(Spec());
  v1::JobSpec spec = Spec();
  spec.mutable_model()->set_hidden(16);
  ExpectViolation(spec, "model.hidden", path);
  spec.mutable_checkpoint()->set_resume(v1::CheckpointSpec::RESUME_NEVER);
  ExpectSound(spec);
  // Another mesh and more steps are fine.
  spec = Spec();
  spec.mutable_parallel()->set_data(2);
  spec.mutable_training()->set_steps(50);
  ExpectSound(spec);
}

TEST_F(JobIntakeTest, AJobWithNothingLeftToTrainIsToldSo) {
  WriteCheckpointOf(Spec(), 10);
  ExpectViolation(Spec(), "training.steps", "is at step 10 already");
  v1::JobSpec spec = Spec();
  spec.mutable_training()->set_steps(11);
  ExpectSound(spec);
}

TEST_F(JobIntakeTest, APathHasToBeACheckpoint) {
  const std::string path = WriteCheckpointOf(Spec(), 6);
  v1::JobSpec spec = Spec();
  spec.mutable_checkpoint()->set_resume(v1::CheckpointSpec::RESUME_PATH);
  spec.mutable_checkpoint()->set_resume_path("checkpoints/job/step-00000007");
  ExpectViolation(spec, "checkpoint.resume", "no complete checkpoint");
  spec.mutable_checkpoint()->set_resume_path("checkpoints/job/step-00000006");
  ExpectSound(spec);
  // A damaged one is told when it is opened: the job fails with the reason, and a job on `auto` takes an older one.
  std::ofstream(path + "/manifest.json") << "{";
  ExpectSound(spec);
  ExpectSound(Spec());
}

TEST_F(JobIntakeTest, AModelTakesItsSizesFromAFolder) {
  const std::string path = WriteCheckpointOf(Spec(), 5);
  v1::JobSpec spec = Spec();
  spec.set_name("next");
  spec.clear_model();
  spec.mutable_model()->set_from(std::filesystem::relative(path, root_).string());
  ASSERT_TRUE(intake_->Prepare(&spec).empty());
  EXPECT_EQ(spec.model().from(), path);
  EXPECT_EQ(spec.model().layers(), 1u);
  EXPECT_EQ(spec.model().mlp_hidden(), 32u);

  spec.mutable_model()->set_heads(4);
  const auto contradicted = intake_->Prepare(&spec);
  ASSERT_EQ(contradicted.size(), 1u);
  EXPECT_EQ(contradicted[0].field(), "model.heads");

  // What follows from the sizes is checked once they are known.
  v1::JobSpec deep = Spec();
  deep.mutable_model()->set_from(path);
  deep.mutable_parallel()->set_pipeline(2);
  const auto too_deep = intake_->Prepare(&deep);
  ASSERT_EQ(too_deep.size(), 1u);
  EXPECT_EQ(too_deep[0].field(), "parallel.pipeline");

  spec.mutable_model()->set_from("nowhere");
  const auto missing = intake_->Prepare(&spec);
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_EQ(missing[0].field(), "model.from");
}

TEST_F(JobIntakeTest, ACorpusTooShortForValidationIsTrainedOnAndSaidSo) {
  std::ofstream(root_ + "/corpus.txt", std::ios::trunc) << std::string(300, 'a');
  v1::JobSpec spec = Spec();
  std::vector<std::string> notes;
  EXPECT_TRUE(intake_->Prepare(&spec, &notes).empty());
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0].rfind("validation is skipped: ", 0), 0u) << notes[0];
}

}  // namespace
}  // namespace penstock
