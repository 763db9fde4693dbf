// The parameter service's gRPC face: translates calls to the table of jobs and back, and nothing else.
//
// Push and Pull are served as raw byte buffers (frame.h); everything else as messages. No call blocks one of gRPC's
// threads: those that may wait, or work on a job's numbers, run on a pool; those that take long on another.
//
// Thread-safe. Outlives the server that serves it.
#ifndef PENSTOCK_SERVICES_PARAMETER_SERVICE_H_
#define PENSTOCK_SERVICES_PARAMETER_SERVICE_H_

#include <functional>
#include <optional>

#include "protos/penstock/v1/parameter.grpc.pb.h"
#include "services/parameter/job_table.h"
#include "services/parameter/server_metrics.h"
#include "services/parameter/streams.h"
#include "services/parameter/thread_pool.h"

namespace penstock {

using ParameterShardBase = v1::ParameterShard::WithRawCallbackMethod_Push<
    v1::ParameterShard::WithRawCallbackMethod_Pull<v1::ParameterShard::WithCallbackMethod_OpenJob<
        v1::ParameterShard::WithCallbackMethod_CloseJob<v1::ParameterShard::WithCallbackMethod_Prepare<
            v1::ParameterShard::WithCallbackMethod_Commit<v1::ParameterShard::WithCallbackMethod_Seal<
                v1::ParameterShard::WithCallbackMethod_Decide<v1::ParameterShard::WithCallbackMethod_WriteCheckpoint<
                    v1::ParameterShard::WithCallbackMethod_ReleaseSnapshot<
                        v1::ParameterShard::WithCallbackMethod_GetDigest<
                            v1::ParameterShard::WithCallbackMethod_GetSteps<v1::ParameterShard::Service>>>>>>>>>>>>;

class ParameterService final : public ParameterShardBase {
 public:
  // All of it outlives the service.
  ParameterService(JobTable& jobs, ServerMetrics& metrics);

  grpc::ServerReadReactor<grpc::ByteBuffer>* Push(grpc::CallbackServerContext* context,
                                                  grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Pull(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* OpenJob(grpc::CallbackServerContext* context, const v1::OpenJobRequest* request,
                                    v1::OpenJobResponse* response) override;
  grpc::ServerUnaryReactor* CloseJob(grpc::CallbackServerContext* context, const v1::CloseJobRequest* request,
                                     v1::CloseJobResponse* response) override;
  grpc::ServerUnaryReactor* Prepare(grpc::CallbackServerContext* context, const v1::PrepareRequest* request,
                                    v1::PrepareResponse* response) override;
  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context, const v1::CommitRequest* request,
                                   v1::CommitResponse* response) override;
  grpc::ServerUnaryReactor* Seal(grpc::CallbackServerContext* context, const v1::SealRequest* request,
                                 v1::SealResponse* response) override;
  grpc::ServerUnaryReactor* Decide(grpc::CallbackServerContext* context, const v1::DecideRequest* request,
                                   v1::DecideResponse* response) override;
  grpc::ServerUnaryReactor* WriteCheckpoint(grpc::CallbackServerContext* context,
                                            const v1::WriteCheckpointRequest* request,
                                            v1::WriteCheckpointResponse* response) override;
  grpc::ServerUnaryReactor* ReleaseSnapshot(grpc::CallbackServerContext* context,
                                            const v1::ReleaseSnapshotRequest* request,
                                            v1::ReleaseSnapshotResponse* response) override;
  grpc::ServerUnaryReactor* GetDigest(grpc::CallbackServerContext* context, const v1::GetDigestRequest* request,
                                      v1::GetDigestResponse* response) override;
  grpc::ServerUnaryReactor* GetSteps(grpc::CallbackServerContext* context, const v1::GetStepsRequest* request,
                                     v1::GetStepsResponse* response) override;

 private:
  // A call of a job's method that takes a waiter; and one that doesn't.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* StartWaiting(const char* method, const Request* request, Response* response,
                                         absl::StatusOr<Progress> (ShardJob::*call)(const Request&, const WaiterPtr&,
                                                                                    Response*));
  grpc::ServerUnaryReactor* StartPlain(const char* method, ThreadPool& pool, std::function<absl::Status()> call);

  JobTable& jobs_;
  ServerMetrics& metrics_;
  StreamResources streams_;
  // Last, so that they finish what they run before the rest goes.
  ThreadPool long_pool_;
  ThreadPool update_pool_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_SERVICE_H_
