#include "coordinator/jobs/open_task.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/checkpoint/catalog.h"
#include "services/checkpoint/manifest.h"

namespace penstock {
namespace {

// What a shard says of a checkpoint that is of no use.
bool IsBadCheckpoint(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status) || absl::IsUnimplemented(status) ||
         absl::IsOutOfRange(status) || absl::IsInvalidArgument(status);
}

// A shard without room for the job won't have it at the next try.
bool MayPass(const absl::Status& status) { return IsTransient(status) && !absl::IsResourceExhausted(status); }

}  // namespace

std::shared_ptr<OpenTask> OpenTask::Start(Options options) {
  std::shared_ptr<OpenTask> task(new OpenTask(std::move(options)));
  task->options_.environment->pool->Run([task] {
    Candidates found = task->FindCandidates();
    task->options_.environment->loop->Post([task, found = std::move(found)] {
      if (task->cancelled_) return;
      for (const std::string& note : found.notes) task->options_.on_note(note);
      task->candidates_ = found.list;
      task->TryNext();
    });
  });
  return task;
}

void OpenTask::Cancel() {
  cancelled_ = true;
  // They hold this task, and it holds them, until they have answered.
  if (const auto open = std::exchange(open_, nullptr)) open->Cancel();
  if (const auto close = std::exchange(close_, nullptr)) close->Cancel();
}

OpenTask::Candidates OpenTask::FindCandidates() const {
  Candidates found;
  const v1::CheckpointSpec& spec = options_.spec.checkpoint();
  if (options_.restore) {
    const auto own = options_.environment->store->ReadCheckpoints(options_.job_id);
    if (own.ok()) {
      for (const StoredCheckpoint& checkpoint : *own) {
        if (checkpoint.step > options_.step_max) continue;
        // The retention may have taken it away since.
        const auto manifest = options_.environment->blobs->Size(JoinPath(checkpoint.path, kManifestName));
        if (!absl::IsNotFound(manifest.status())) found.list.push_back({checkpoint.path, true});
      }
    } else {
      found.notes.push_back(absl::StrCat("the list of the job's checkpoints can't be read: ", own.status().ToString()));
    }
  }
  if (spec.resume() == v1::CheckpointSpec::RESUME_PATH) {
    found.list.push_back({spec.resume_path(), false});
    return found;
  }
  if (spec.resume() == v1::CheckpointSpec::RESUME_AUTO && !spec.directory().empty()) AddFolder(&found);
  found.list.push_back({});
  return found;
}

void OpenTask::AddFolder(Candidates* found) const {
  const std::string folder = JobCheckpointFolder(options_.spec.checkpoint().directory(), options_.spec.name());
  const auto listed = ListCheckpoints(*options_.environment->blobs, folder);
  if (!listed.ok()) {
    if (!absl::IsNotFound(listed.status())) found->notes.push_back(listed.status().ToString());
    return;
  }
  for (const CheckpointInfo& info : *listed) {
    const bool known = std::any_of(found->list.begin(), found->list.end(),
                                   [&info](const Candidate& candidate) { return candidate.path == info.path; });
    // What lies there of later steps is this very job's, of a history that was cut.
    if (known || (options_.restore && info.step > options_.step_max)) continue;
    if (!info.status.ok()) {
      found->notes.push_back(absl::StrCat("the checkpoint ", info.path, " is left out: ", info.status.ToString()));
    } else if (info.step >= options_.spec.training().steps()) {
      found->notes.push_back(
          absl::StrCat("the checkpoint ", info.path, " is left out: it isn't before the job's last step"));
    } else {
      found->list.push_back({info.path, false});
    }
  }
}

void OpenTask::TryNext() {
  const JobEnvironment& environment = *options_.environment;
  FanOut<v1::OpenJobResponse>::Options open;
  open.loop = environment.loop;
  open.clock = environment.clock;
  open.shards = options_.shards;
  open.is_transient = MayPass;
  open.on_wait = options_.on_wait;
  open.send = [task = shared_from_this()](size_t shard, FanOut<v1::OpenJobResponse>::Reply reply) {
    const std::string& id = task->options_.shards[shard];
    const auto address = task->options_.environment->cluster->FindShard(id);
    if (!address.has_value()) {
      reply(absl::UnavailableError("it isn't registered"));
      return;
    }
    v1::OpenJobRequest request;
    request.set_job_id(task->options_.job_id);
    *request.mutable_spec() = task->options_.spec;
    request.set_shard_index(static_cast<uint32_t>(shard));
    request.set_shard_count(static_cast<uint32_t>(task->options_.shards.size()));
    request.set_epoch(task->options_.epoch);
    request.set_checkpoint_path(task->candidates_[task->at_].path);
    task->options_.environment->shards->OpenJob(*address, request, kOpenTimeout, std::move(reply));
  };
  open.done = [task = shared_from_this()](absl::StatusOr<std::vector<v1::OpenJobResponse>> opened) {
    task->open_.reset();
    if (!task->cancelled_) task->OnOpened(opened);
  };
  open_ = FanOut<v1::OpenJobResponse>::Start(std::move(open));
}

void OpenTask::OnOpened(const absl::StatusOr<std::vector<v1::OpenJobResponse>>& opened) {
  const Candidate& candidate = candidates_[at_];
  if (!opened.ok()) {
    const bool bad = !candidate.path.empty() && IsBadCheckpoint(opened.status());
    if (!bad || at_ + 1 == candidates_.size()) {
      options_.done(opened.status());
      return;
    }
    const std::string& next = candidates_[at_ + 1].path;
    options_.on_note(absl::StrCat("the checkpoint ", candidate.path, " can't be used (", opened.status().ToString(),
                                  "); going on with ", next.empty() ? "initial weights" : next));
    CloseAndTryNext();
    return;
  }
  Opened result{opened->front().committed_step(), candidate.path, candidate.own};
  for (const v1::OpenJobResponse& response : *opened) {
    if (response.committed_step() == result.step) continue;
    options_.done(absl::InternalError(
        absl::StrCat("the shards opened different versions: ", result.step, " and ", response.committed_step())));
    return;
  }
  options_.done(result);
}

// Some shards may have filled themselves from the bad checkpoint before another one found out. OpenJob answers with
// what is held under the same epoch, so they have to let go of it first.
void OpenTask::CloseAndTryNext() {
  const JobEnvironment& environment = *options_.environment;
  FanOut<v1::CloseJobResponse>::Options close;
  close.loop = environment.loop;
  close.clock = environment.clock;
  close.shards = options_.shards;
  close.on_wait = options_.on_wait;
  close.send = [task = shared_from_this()](size_t shard, FanOut<v1::CloseJobResponse>::Reply reply) {
    const auto address = task->options_.environment->cluster->FindShard(task->options_.shards[shard]);
    if (!address.has_value()) {
      reply(absl::UnavailableError("it isn't registered"));
      return;
    }
    v1::CloseJobRequest request;
    request.set_job_id(task->options_.job_id);
    request.set_epoch(task->options_.epoch);
    task->options_.environment->shards->CloseJob(
        *address, request, kCloseTimeout, [reply = std::move(reply)](absl::StatusOr<v1::CloseJobResponse> closed) {
          // What isn't there needn't be closed.
          if (absl::IsNotFound(closed.status())) closed = v1::CloseJobResponse();
          reply(std::move(closed));
        });
  };
  close.done = [task = shared_from_this()](const absl::StatusOr<std::vector<v1::CloseJobResponse>>& closed) {
    task->close_.reset();
    if (task->cancelled_) return;
    if (!closed.ok()) {
      task->options_.done(closed.status());
      return;
    }
    ++task->at_;
    task->TryNext();
  };
  close_ = FanOut<v1::CloseJobResponse>::Start(std::move(close));
}

}  // namespace penstock
