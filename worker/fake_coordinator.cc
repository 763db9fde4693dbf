#include "worker/fake_coordinator.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

std::string ValueKey(const std::string& job, uint64_t epoch, const std::string& key) {
  return absl::StrCat(job, "/", epoch, "/", key);
}

}  // namespace

FakeCoordinator::FakeCoordinator() {
  RpcServer::Options options;
  options.services = {static_cast<v1::Membership::Service*>(this), static_cast<v1::Rendezvous::Service*>(this)};
  absl::StatusOr<std::unique_ptr<RpcServer>> server = RpcServer::Start(options);
  PENSTOCK_CHECK(server.ok());
  server_ = *std::move(server);
}

FakeCoordinator::~FakeCoordinator() { server_->Stop(absl::ZeroDuration()); }

bool FakeCoordinator::WaitJoined(const std::string& worker) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return streams_.count(worker) > 0; });
}

bool FakeCoordinator::Send(const std::string& worker, const v1::MemberCommand& command) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = streams_.find(worker);
  return found != streams_.end() && found->second->Write(command);
}

bool FakeCoordinator::WaitFor(const std::function<bool(const Reports&)>& condition, absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [&] { return condition(reports_); });
}

FakeCoordinator::Reports FakeCoordinator::reports() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return reports_;
}

v1::Cursor FakeCoordinator::cursor(const std::string& worker) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = cursors_.find(worker);
  return found == cursors_.end() ? v1::Cursor() : found->second;
}

grpc::Status FakeCoordinator::Join(grpc::ServerContext*, Stream* stream) {
  v1::MemberReport report;
  if (!stream->Read(&report) || !report.has_hello()) return {grpc::StatusCode::INVALID_ARGUMENT, "no hello"};
  const std::string worker = report.hello().info().id();
  v1::MemberCommand welcome;
  welcome.mutable_welcome()->mutable_heartbeat_interval()->set_nanos(20'000'000);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stream->Write(welcome);
    streams_[worker] = stream;
    changed_.notify_all();
  }
  while (stream->Read(&report)) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (report.has_heartbeat()) {
      cursors_[worker] = report.heartbeat().cursor();
    } else {
      reports_.emplace_back(worker, report);
    }
    changed_.notify_all();
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (streams_[worker] == stream) streams_.erase(worker);
  changed_.notify_all();
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::SetValue(grpc::ServerContext*, const v1::SetValueRequest* request,
                                       v1::SetValueResponse*) {
  std::lock_guard<std::mutex> lock(mutex_);
  values_[ValueKey(request->job_id(), request->epoch(), request->key())] = request->value();
  changed_.notify_all();
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::GetValues(grpc::ServerContext* context, const v1::GetValuesRequest* request,
                                        v1::GetValuesResponse* response) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!context->IsCancelled()) {
    response->Clear();
    for (const std::string& key : request->keys()) {
      const auto found = values_.find(ValueKey(request->job_id(), request->epoch(), key));
      if (found != values_.end()) response->add_values(found->second);
    }
    if (response->values_size() == request->keys_size()) return grpc::Status::OK;
    changed_.wait_for(lock, std::chrono::milliseconds(10));
  }
  return {grpc::StatusCode::DEADLINE_EXCEEDED, "a key isn't set"};
}

}  // namespace penstock
