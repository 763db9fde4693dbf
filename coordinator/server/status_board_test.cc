#include "coordinator/server/status_board.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

v1::JobStatus Job(const std::string& id, const std::string& name, uint64_t step = 0) {
  v1::JobStatus status;
  status.set_id(id);
  status.set_name(name);
  status.set_step(step);
  return status;
}

TEST(StatusBoardTest, ANameMeansItsNewestJob) {
  StatusBoard board;
  board.Show(Job("aa11", "first"));
  board.Show(Job("bb22", "second"));
  board.Show(Job("aa99", "first"));
  board.Show(Job("aa11", "first", 5));  // showing again doesn't make it newer
  EXPECT_EQ((*board.Find("first"))->id(), "aa99");
  EXPECT_EQ((*board.Find("aa11"))->step(), 5u);
  EXPECT_EQ((*board.Find("bb"))->id(), "bb22");
  EXPECT_EQ(board.Find("aa").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(board.Find("zz").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(board.Find("").status().code(), absl::StatusCode::kInvalidArgument);
  const auto all = board.All();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]->id(), "aa99");
  EXPECT_EQ(all[2]->id(), "aa11");
  board.Forget("aa99");
  EXPECT_EQ((*board.Find("first"))->id(), "aa11");
}

TEST(StatusBoardTest, WatchersHearOfTheirJobOnly) {
  StatusBoard board;
  board.Show(Job("a", "a"));
  std::vector<uint64_t> steps;
  const uint64_t watcher = board.Watch("a", [&](SharedStatus status) { steps.push_back(status->step()); });
  board.Show(Job("a", "a", 1));
  board.Show(Job("b", "b", 7));
  board.Show(Job("a", "a", 2));
  board.Unwatch(watcher);
  board.Show(Job("a", "a", 3));
  EXPECT_EQ(steps, (std::vector<uint64_t>{1, 2}));
}

}  // namespace
}  // namespace penstock
