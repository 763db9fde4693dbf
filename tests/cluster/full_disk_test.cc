// A real disk fills up while a checkpoint is written: the one before stays good, and the job says what happened.
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

// Room for one checkpoint of the job, and not for two.
constexpr char kDiskOptions[] = "size=3m";

TEST(FullDiskTest, ThePreviousCheckpointStaysGood) {
  auto cluster = TestCluster::Start({.workers = 2, .params = 2});
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  const std::string disk = absl::StrCat((*cluster)->directory(), "/disk");
  ASSERT_EQ(mkdir(disk.c_str(), 0755), 0);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, kDiskOptions) != 0) {
    GTEST_SKIP() << "mounting a small disk needs root: " << strerror(errno);
  }
  TinyJob job;
  job.name = "full";
  job.pipeline = 2;
  job.hidden = 64;
  job.steps = 30;
  job.checkpoint = absl::StrCat("{directory: ", disk, ", every_steps: 10, keep: 0}");
  EXPECT_EQ((*cluster)->Submit(job.Text()).exit_code, 0);
  const Json ended = (*cluster)->WaitForEnd("full");
  // Training went on past the checkpoint that failed; without its last one the job hasn't succeeded.
  EXPECT_EQ(ended.value("step", 0), 30);
  EXPECT_EQ(ended.value("state", ""), "FAILED");
  EXPECT_THAT(ended.value("message", ""), HasSubstr("No space left on device"));
  const Json checkpoints = (*cluster)->CtlJson({"checkpoint", "list", "full"});
  EXPECT_EQ(checkpoints.size(), 1u) << checkpoints.dump(1);
  EXPECT_EQ(checkpoints[0]["step"], 10);
  EXPECT_EQ((*cluster)->Ctl({"checkpoint", "verify", "full"}).exit_code, 0);

  // With room again, the job goes on from there.
  EXPECT_EQ(mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0) << strerror(errno);
  const Json resumed = (*cluster)->RunJob("full", job.Text());
  EXPECT_EQ(resumed.value("samples_consumed", 0), 30 * job.global_batch_size);
  EXPECT_EQ(resumed.value("samples_repeated", -1), 0);
  EXPECT_EQ((*cluster)->Stop(), 0);
  EXPECT_EQ(umount(disk.c_str()), 0) << strerror(errno);
}

}  // namespace
}  // namespace penstock
