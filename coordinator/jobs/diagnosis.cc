#include "coordinator/jobs/diagnosis.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/schedule/instruction.h"

namespace penstock {
namespace {

// " at step 57 in Backward mb 3", or nothing.
std::string Where(const RankView& rank, const char* preposition) {
  if (!rank.cursor.has_value() || rank.cursor->step() == 0) return "";
  std::string text = absl::StrCat(" ", preposition, " step ", rank.cursor->step());
  if (!rank.cursor->instruction().empty()) absl::StrAppend(&text, " in ", rank.cursor->instruction());
  return text;
}

bool Does(const RankView& rank, Op op) {
  return rank.cursor.has_value() && absl::StartsWith(rank.cursor->instruction(), OpName(op));
}

// The stage at the other end of a send or receive, from the instruction's text; the rank's own when there is none.
int PeerStage(const RankView& rank, int own) {
  const std::string& text = rank.cursor->instruction();
  const size_t at = text.rfind("stage ");
  int stage = 0;
  if (at == std::string::npos || !absl::SimpleAtoi(text.substr(at + 6), &stage)) return own;
  return stage;
}

// The ranks that this one waits for; empty when it is at work itself, or waits for the parameter shards alone.
std::vector<int> WaitsFor(const Mesh& mesh, const std::vector<RankView>& ranks, const RankView& view) {
  const MeshCoordinates at = mesh.CoordinatesOf(view.rank);
  if (Does(view, Op::kSendActivation) || Does(view, Op::kRecvActivation) || Does(view, Op::kSendGradient) ||
      Does(view, Op::kRecvGradient)) {
    const int stage = PeerStage(view, at.stage);
    if (stage == at.stage || stage < 0 || stage >= mesh.pipeline()) return {};
    return {mesh.OnStage(view.rank, stage)};
  }
  const auto behind = [&view](const RankView& other) {
    if (!other.cursor.has_value()) return true;
    return other.cursor->step() < view.cursor->step() ||
           (other.cursor->step() == view.cursor->step() &&
            other.cursor->instruction_index() < view.cursor->instruction_index());
  };
  std::vector<int> waits;
  if (Does(view, Op::kReduceGradients)) {
    // Its data group; and of the tied parameter the same place on the other end of the pipeline.
    for (const int rank : mesh.DataGroup(view.rank)) {
      if (rank != view.rank && behind(ranks[rank])) waits.push_back(rank);
    }
    if (mesh.pipeline() > 1 && at.stage == 0) {
      const int tied = mesh.OnStage(view.rank, mesh.pipeline() - 1);
      if (ranks[tied].cursor.has_value() && !Does(ranks[tied], Op::kReduceGradients) &&
          !Does(ranks[tied], Op::kOptimizerStep)) {
        waits.push_back(tied);
      }
    }
  } else if (Does(view, Op::kOptimizerStep)) {
    // The new version comes when every rank has pushed.
    for (const RankView& other : ranks) {
      const bool same_step = other.cursor.has_value() && other.cursor->step() == view.cursor->step();
      const bool past = other.cursor.has_value() && other.cursor->step() > view.cursor->step();
      if (other.rank != view.rank && !past && !(same_step && Does(other, Op::kOptimizerStep))) {
        waits.push_back(other.rank);
      }
    }
  }
  return waits;
}

// Follows who waits for whom from `rank` to one that waits for nobody; nullopt in a circle.
std::optional<int> FindCulprit(const std::vector<std::vector<int>>& waits, int rank) {
  std::vector<bool> seen(waits.size(), false);
  while (!waits[rank].empty()) {
    if (seen[rank]) return std::nullopt;
    seen[rank] = true;
    rank = waits[rank].front();
  }
  return rank;
}

std::string Doing(const RankView& rank) {
  if (!rank.cursor.has_value() || rank.cursor->instruction().empty()) return "has said nothing yet";
  return absl::StrCat("is in ", rank.cursor->instruction(), " of step ", rank.cursor->step());
}

}  // namespace

std::string DescribeRank(const Mesh& mesh, const RankView& rank) {
  const MeshCoordinates at = mesh.CoordinatesOf(rank.rank);
  return absl::StrCat(rank.worker, " (stage ", at.stage, ", data ", at.data_rank,
                      mesh.tensor() > 1 ? absl::StrCat(", tensor ", at.tensor_rank) : "", ")");
}

std::string DescribeLost(const Mesh& mesh, const RankView& rank, const std::string& reason) {
  return absl::StrCat(DescribeRank(mesh, rank), " was lost", Where(rank, "at"), ": ", reason);
}

std::string DescribeFailure(const Mesh& mesh, const RankView& rank, const v1::RankFailed& failed,
                            const std::optional<RankView>& lost_suspect) {
  const std::string status = absl::Status(static_cast<absl::StatusCode>(failed.code()), failed.message()).ToString();
  if (lost_suspect.has_value()) {
    return absl::StrCat(DescribeRank(mesh, *lost_suspect), " is out of reach", Where(*lost_suspect, "since"), ", says ",
                        DescribeRank(mesh, rank), ": ", status);
  }
  return absl::StrCat(DescribeRank(mesh, rank), " failed", Where(rank, "at"), ": ", status);
}

std::string DescribeStall(const Mesh& mesh, const std::vector<RankView>& ranks, absl::Duration duration) {
  const std::string begin =
      absl::StrCat("no step was committed for ", absl::FormatDuration(absl::Trunc(duration, absl::Seconds(1))), ": ");
  std::vector<std::vector<int>> waits;
  for (const RankView& rank : ranks) waits.push_back(WaitsFor(mesh, ranks, rank));
  // The one that most ranks wait for in the end.
  std::vector<int> votes(ranks.size(), 0);
  std::vector<int> voter(ranks.size(), -1);
  for (const RankView& rank : ranks) {
    if (waits[rank.rank].empty()) continue;
    const std::optional<int> culprit = FindCulprit(waits, rank.rank);
    if (!culprit.has_value()) continue;
    ++votes[*culprit];
    // The sentence is about one that waits for it directly.
    if (waits[rank.rank].front() == *culprit && voter[*culprit] < 0) voter[*culprit] = rank.rank;
  }
  const auto most = std::max_element(votes.begin(), votes.end());
  if (most != votes.end() && *most > 0) {
    const RankView& culprit = ranks[most - votes.begin()];
    const RankView& waiting = ranks[voter[culprit.rank]];
    return absl::StrCat(begin, DescribeRank(mesh, waiting), " waits in ", waiting.cursor->instruction(), " for ",
                        DescribeRank(mesh, culprit), ", which ", Doing(culprit));
  }
  const bool all_at_update =
      std::all_of(ranks.begin(), ranks.end(), [](const RankView& rank) { return Does(rank, Op::kOptimizerStep); });
  if (all_at_update) {
    return absl::StrCat(begin, "every rank waits in OptimizerStep of step ", ranks.front().cursor->step(),
                        " for the parameter shards");
  }
  std::string all;
  for (const RankView& rank : ranks) {
    absl::StrAppend(&all, all.empty() ? "" : ", ", DescribeRank(mesh, rank), " ", Doing(rank));
  }
  return absl::StrCat(begin, all);
}

}  // namespace penstock
