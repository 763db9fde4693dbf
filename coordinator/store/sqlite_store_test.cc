// What only the file can go wrong with.
#include "coordinator/store/sqlite_store.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

class SqliteStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "storeXXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder_ + "/store";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
  std::string path_;
};

StoredJob MakeJob() {
  StoredJob job;
  job.id = "a";
  job.request_id = "r";
  job.submitted_at = absl::FromUnixSeconds(1);
  return job;
}

TEST_F(SqliteStoreTest, KeepsWhatWasWrittenAcrossOpenings) {
  {
    auto store = SqliteStore::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->AddJob(MakeJob()).ok());
    PersistedJob job;
    job.epoch = 1;
    ASSERT_TRUE((*store)->PersistEpoch("a", "me", job, absl::FromUnixSeconds(2)).ok());
  }
  auto store = SqliteStore::Open(path_);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_EQ((*store)->LoadJobs()->size(), 1u);
  EXPECT_EQ((*(*store)->LoadJobs())[0].persisted.epoch, 1u);
  PersistedJob job;
  job.epoch = 1;
  // Another coordinator isn't taken for the one that wrote epoch 1.
  EXPECT_EQ((*store)->PersistEpoch("a", "other", job, absl::FromUnixSeconds(3)).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(SqliteStoreTest, BelongsToOneCoordinatorAtATime) {
  auto first = SqliteStore::Open(path_);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = SqliteStore::Open(path_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(second.status().ToString().find(std::to_string(getpid())), std::string::npos) << second.status();
  first->reset();
  EXPECT_TRUE(SqliteStore::Open(path_).ok());
}

TEST_F(SqliteStoreTest, AFileThatIsNoDatabaseIsRefusedAndLeftAlone) {
  const std::string text(5000, 'x');
  std::ofstream(path_) << text;
  const auto store = SqliteStore::Open(path_);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
  EXPECT_NE(store.status().message().find(path_), absl::string_view::npos);
  std::ifstream file(path_);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
}

TEST_F(SqliteStoreTest, AnotherProgramsDatabaseIsRefused) {
  {
    auto database = SqliteDatabase::Open(path_);
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE((*database)->Execute("CREATE TABLE theirs (x)").ok());
  }
  EXPECT_EQ(SqliteStore::Open(path_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SqliteStoreTest, ANewerSchemaIsRefused) {
  ASSERT_TRUE(SqliteStore::Open(path_).ok());
  {
    auto database = SqliteDatabase::Open(path_);
    ASSERT_TRUE((*database)->Execute("PRAGMA user_version=99").ok());
  }
  const auto store = SqliteStore::Open(path_);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(store.status().message().find("version 99"), absl::string_view::npos) << store.status();
}

TEST_F(SqliteStoreTest, ADamagedFileIsRefused) {
  {
    auto store = SqliteStore::Open(path_);
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE((*store)->AddJob(MakeJob()).ok());
    std::vector<v1::StepRecord> records(2000);
    for (size_t i = 0; i < records.size(); ++i) records[i].set_step(i);
    ASSERT_TRUE((*store)->WriteSteps("a", 0, records, true).ok());
  }
  // The last connection has folded the log into the file.
  ASSERT_GT(std::filesystem::file_size(path_), 40000u);
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    const std::string junk(32768, '\x5a');
    file.write(junk.data(), static_cast<std::streamsize>(junk.size()));
  }
  const auto store = SqliteStore::Open(path_);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
}

TEST_F(SqliteStoreTest, AFolderThatIsNotThereIsNamed) {
  const auto store = SqliteStore::Open(folder_ + "/none/store");
  EXPECT_EQ(store.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(store.status().message().find("none"), absl::string_view::npos) << store.status();
}

}  // namespace
}  // namespace penstock
