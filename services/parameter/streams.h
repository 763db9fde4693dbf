// The server's end of a Push: chunks in, one answer out. And of a Pull: one question in, chunks out.
//
// Reactors of gRPC's callback API on raw byte buffers; gRPC owns and serialises them. Neither blocks one of its
// threads: a Pull that has to wait for its version gives the thread back and goes on, when it is woken, on the pool.
#ifndef PENSTOCK_SERVICES_PARAMETER_STREAMS_H_
#define PENSTOCK_SERVICES_PARAMETER_STREAMS_H_

#include <atomic>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "services/parameter/job_table.h"
#include "services/parameter/server_metrics.h"
#include "services/parameter/thread_pool.h"

namespace penstock {

// What streams share. All of it outlives them.
struct StreamResources {
  JobTable* jobs = nullptr;
  ThreadPool* pool = nullptr;
  ServerMetrics* metrics = nullptr;
  // Streams that are open.
  std::atomic<int> pushes{0};
  std::atomic<int> pulls{0};
};

grpc::ServerReadReactor<grpc::ByteBuffer>* StartPush(StreamResources& resources, grpc::CallbackServerContext* context,
                                                     grpc::ByteBuffer* response);
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartPull(StreamResources& resources, grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_STREAMS_H_
