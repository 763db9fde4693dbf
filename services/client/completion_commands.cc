#include <cstdio>
#include <cstdlib>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/client/commands.h"
#include "services/client/completion.h"
#include "services/client/output.h"

namespace penstock {
namespace {

// Somebody waits with a finger on the tabulator key.
constexpr absl::Duration kNamesTimeout = absl::Milliseconds(500);

std::vector<Candidate> JobNames(CoordinatorClient& client) {
  auto jobs = client.ListJobs();
  if (!jobs.ok()) return {};
  std::vector<Candidate> found;
  std::set<std::string> names;
  for (const v1::JobStatus& job : *jobs) {
    // A name means its newest job; the older ones of that name have their ids.
    const bool newest = names.insert(job.name()).second;
    found.push_back({newest ? job.name() : job.id(),
                     absl::StrCat(newest ? "" : absl::StrCat(job.name(), ", "), JobStateName(job.state()), ", step ",
                                  job.step(), " of ", job.steps())});
  }
  return found;
}

std::vector<Candidate> WorkerNames(CoordinatorClient& client) {
  auto members = client.ListMembers(v1::MEMBER_ROLE_WORKER);
  if (!members.ok()) return {};
  std::vector<Candidate> found;
  for (const v1::MemberStatus& member : *members) found.push_back({member.info().id(), member.state()});
  return found;
}

}  // namespace

int PrintCompletionScript(const CommandContext& context) {
  auto script = CompletionScript(context.line.command->verb);
  if (!script.ok()) return Fail(script.status());
  std::fputs(script->c_str(), stdout);
  return kExitDone;
}

int PrintCandidates(const std::vector<std::string>& words) {
  const auto environment = [](const char* name) -> const char* { return std::getenv(name); };
  CoordinatorClient client(TypedFlag(Commands(), words, "coordinator", environment), kNamesTimeout);
  const auto names = [&client](const std::string& kind) {
    return kind == "JOB" ? JobNames(client) : WorkerNames(client);
  };
  for (const Candidate& candidate : Complete(Commands(), words, names)) {
    std::printf("%s\t%s\n", candidate.text.c_str(), candidate.description.c_str());
  }
  return kExitDone;
}

}  // namespace penstock
