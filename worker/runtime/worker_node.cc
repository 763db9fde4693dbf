#include "worker/runtime/worker_node.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/log.h"

namespace penstock {
namespace {

// Whether `stop` means this assignment.
bool Covers(const v1::StopRank& stop, const v1::Assignment& assignment) {
  return stop.job_id() == assignment.job_id() && assignment.epoch() <= stop.epoch();
}

}  // namespace

WorkerNode::WorkerNode(Options options) : options_(std::move(options)), thread_([this] { Main(); }) {}

WorkerNode::~WorkerNode() { Stop("the worker ends"); }

void WorkerNode::Stop(const std::string& reason) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    commands_.clear();
    changed_.notify_all();
  }
  EndCurrent(reason);
  std::lock_guard<std::mutex> lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<RankRunner> WorkerNode::current() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return current_;
}

std::optional<v1::RunningRank> WorkerNode::running() const {
  const std::shared_ptr<RankRunner> runner = current();
  if (runner == nullptr || runner->released()) return std::nullopt;
  return runner->running();
}

v1::Cursor WorkerNode::cursor() const {
  const std::shared_ptr<RankRunner> runner = current();
  return runner == nullptr || runner->released() ? v1::Cursor() : runner->cursor();
}

bool WorkerNode::busy() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return current_ != nullptr || !commands_.empty();
}

void WorkerNode::OnCommand(const v1::MemberCommand& command) {
  if (!command.has_assign() && !command.has_stop()) return;
  std::shared_ptr<RankRunner> abort;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    if (commands_.size() >= kWorkerCommandsMax) {
      LogWarning("more than {} commands wait; one was dropped", kWorkerCommandsMax);
      return;
    }
    commands_.push_back(command);
    if (command.has_stop() && current_ != nullptr && Covers(command.stop(), current_->assignment())) abort = current_;
    changed_.notify_all();
  }
  if (abort != nullptr) abort->Stop(command.stop().reason());
}

void WorkerNode::Main() {
  while (true) {
    v1::MemberCommand command;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || !commands_.empty(); });
      if (stopping_) return;
      command = std::move(commands_.front());
      commands_.pop_front();
    }
    if (command.has_assign()) Assign(command.assign());
    if (command.has_stop()) StopRank(command.stop());
  }
}

bool WorkerNode::EndCurrent(const std::string& reason) {
  const std::shared_ptr<RankRunner> runner = current();
  if (runner == nullptr) return false;
  const bool was_running = !runner->released();
  runner->Stop(reason);
  // An instruction that computes isn't interrupted, so this is as long as one at most.
  runner->WaitEnded(absl::InfiniteDuration());
  std::lock_guard<std::mutex> lock(mutex_);
  if (current_ == runner) current_.reset();
  return was_running;
}

void WorkerNode::Assign(const v1::Assignment& assignment) {
  if (const std::shared_ptr<RankRunner> runner = current(); runner != nullptr) {
    const v1::Assignment& running = runner->assignment();
    if (running.job_id() == assignment.job_id() && running.epoch() >= assignment.epoch()) {
      LogInfo("job {}: the assignment of epoch {} comes again, or late; epoch {} is known", assignment.job_id(),
              assignment.epoch(), running.epoch());
      return;
    }
    // A coordinator says stop first; one that lost its memory may not.
    EndCurrent(absl::StrCat("job ", assignment.job_id(), " epoch ", assignment.epoch(), " takes the worker"));
  }
  RankRunner::Options options;
  options.assignment = assignment;
  options.threads = options_.threads;
  options.backend = options_.backend;
  options.connect = options_.connect;
  options.connect_devices = options_.connect_devices;
  options.state = options_.state;
  options.report = options_.report;
  options.device_lost = options_.device_lost;
  options.metrics = options_.metrics;
  options.timeline = options_.timeline;
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return;
  current_ = std::make_shared<RankRunner>(std::move(options));
}

void WorkerNode::StopRank(const v1::StopRank& stop) {
  const std::shared_ptr<RankRunner> runner = current();
  if (runner == nullptr || !Covers(stop, runner->assignment())) {
    ReportStopped(stop.job_id(), stop.epoch());
    return;
  }
  const bool ended_before = !EndCurrent(stop.reason());
  // Else the rank said so itself, under its own epoch.
  if (ended_before || runner->assignment().epoch() != stop.epoch()) ReportStopped(stop.job_id(), stop.epoch());
}

void WorkerNode::ReportStopped(const std::string& job_id, uint64_t epoch) {
  v1::MemberReport report;
  report.set_job_id(job_id);
  report.set_epoch(epoch);
  report.mutable_stopped();
  options_.report(std::move(report));
}

}  // namespace penstock
