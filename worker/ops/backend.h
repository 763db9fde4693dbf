// A device's operations behind one interface: the layers of a model know no device by name.
//
// A backend creates operations for given shapes; what can be built ahead is built then. The same operation on the same
// shapes gives the same bits, whichever layer or stage uses it.
// Thread-safety: creation is safe from any thread. A backend outlives its operations.
#ifndef PENSTOCK_WORKER_OPS_BACKEND_H_
#define PENSTOCK_WORKER_OPS_BACKEND_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/bfloat16.h"
#include "core/base/data_type.h"
#include "core/optimizer/adamw.h"
#include "worker/ops/attention.h"
#include "worker/ops/dropout.h"
#include "worker/ops/embedding.h"
#include "worker/ops/gelu.h"
#include "worker/ops/host_wait.h"
#include "worker/ops/layer_norm.h"
#include "worker/ops/linear.h"
#include "worker/ops/linear_cross_entropy.h"
#include "worker/ops/residual.h"
#include "worker/ops/stream_clock.h"

namespace penstock {

// One piece of the device's memory, freed with the object.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual std::byte* data() const = 0;
  virtual int64_t size() const = 0;
};

// A point in what was given to a stream. Outlives nothing of the backend's.
class Fence {
 public:
  virtual ~Fence() = default;
  // Waits on the host until it is reached. From any thread.
  virtual absl::Status Wait() = 0;
  // What is given to the context's stream from now on waits for it; the host doesn't.
  virtual absl::Status Block(const OpContext& context) = 0;
};

// A device queues some 1024 launches; a layer's backward pass takes about 40, a tensor group's sums included.
inline constexpr int kLayersAheadMax = 16;

struct CopySpan {
  const void* from = nullptr;
  void* to = nullptr;
  int64_t bytes = 0;
};

// operation_times.cc passes every function on to another backend: a new one has to be there, too.
class Backend {
 public:
  virtual ~Backend() = default;

  // For plans and reports: "cpu, 2 threads, oneDNN 2.6.3".
  virtual std::string Describe() const = 0;

  // Of memory that Allocate could still give, at this moment and by the device's own account.
  virtual absl::StatusOr<int64_t> AvailableBytes() = 0;
  // Of all its memory, whoever has it; 0 where that isn't known.
  virtual absl::StatusOr<int64_t> CapacityBytes() { return int64_t{0}; }
  // Zeroed memory, aligned for any operation. RESOURCE_EXHAUSTED names the size.
  virtual absl::StatusOr<std::unique_ptr<DeviceMemory>> Allocate(int64_t bytes) = 0;

  // Before a thread's first call here, and its first of a fence; the one that made the backend needn't. A thread that
  // doesn't uses the machine's first device, and takes memory there.
  virtual absl::Status EnterThread() { return absl::OkStatus(); }

  // Whether this process can still compute on the device: an error that every later call would give, too (a kernel's
  // fault, the card's). Never waits, so what is still on its way may fail later.
  virtual absl::Status CheckUsable() { return absl::OkStatus(); }

  // Whether the host may read and write what Allocate gives. Where it may not, the runtime goes through copies.
  virtual bool host_memory() const { return true; }
  // Memory of the host from and to which copies go at full speed (pinned). Zeroed.
  virtual absl::StatusOr<std::unique_ptr<DeviceMemory>> AllocateHost(int64_t bytes) { return Allocate(bytes); }
  // In the order of the context's stream. Either side of a copy may be host memory; from and to don't overlap. What a
  // copy leaves in host memory is there after Synchronize.
  virtual absl::Status Zero(const OpContext& context, void* to, int64_t bytes) = 0;
  virtual absl::Status Copy(const OpContext& context, const void* from, void* to, int64_t bytes) = 0;
  // Waits until everything given to the context's stream is done.
  virtual absl::Status Synchronize(const OpContext&) { return absl::OkStatus(); }
  // What the host waits with from now on, here and for fences; empty: for as long as it takes. Before other threads
  // wait.
  virtual void SetHostWait(HostWait) {}
  // Called between layers: the host runs at most kLayersAheadMax of these calls ahead of the device. So it never comes
  // to the point where a launch blocks until the device goes on, which nothing could end but the device.
  virtual absl::Status Pace(const OpContext&) { return absl::OkStatus(); }
  // Of the context's stream; null where calls return when they are done, and the host's clock says it all.
  virtual absl::StatusOr<std::unique_ptr<StreamClock>> CreateStreamClock(const OpContext&) {
    return std::unique_ptr<StreamClock>();
  }
  // What everything given to the context's stream so far ends with; null where calls return when they are done.
  virtual absl::StatusOr<std::shared_ptr<Fence>> RecordFence(const OpContext&) { return std::shared_ptr<Fence>(); }
  // Copies as Copy does, but beside the context's stream: they begin when all that it was given is done, and what it is
  // given next doesn't wait for them. Until the fence, which is null where there is no beside, nobody may write to what
  // is copied.
  virtual absl::StatusOr<std::shared_ptr<Fence>> CopyBeside(const OpContext& context,
                                                            std::span<const CopySpan> copies) {
    for (const CopySpan& copy : copies) {
      if (absl::Status status = Copy(context, copy.from, copy.to, copy.bytes); !status.ok()) return status;
    }
    return std::shared_ptr<Fence>();
  }
  // sum += part, element by element.
  virtual absl::Status Add(const OpContext& context, std::span<const float> part, std::span<float> sum) = 0;
  // Device memory on both sides, of different types. UNIMPLEMENTED where the device knows one type only.
  virtual absl::Status Convert(const OpContext&, DataType from_type, const void*, DataType to_type, void*, int64_t) {
    return absl::UnimplementedError(
        absl::StrCat("this device doesn't convert ", DataTypeName(from_type), " to ", DataTypeName(to_type)));
  }

  // sums[i] = SumOfSquares(pieces[i]) of core/optimizer, with its bits. `sums` is memory of AllocateHost, and written
  // when Synchronize returns.
  virtual absl::Status SquareSums(const OpContext& context, std::span<const std::span<const float>> pieces,
                                  double* sums) = 0;
  // AdamWUpdate of core/optimizer, with its bits. `rounded` gets the new weights in bf16 too, unless it is empty.
  virtual absl::Status AdamW(const OpContext& context, const AdamWParams& params, std::span<const float> gradient,
                             std::span<float> weights, std::span<float> exp_avg, std::span<float> exp_avg_sq,
                             std::span<Bfloat16> rounded) = 0;

  // INVALID_ARGUMENT for shapes that aren't positive; UNIMPLEMENTED for a type that the device doesn't compute in.
  virtual absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape) = 0;
  virtual absl::StatusOr<std::unique_ptr<LayerNorm>> CreateLayerNorm(const LayerNormShape& shape) = 0;
  virtual absl::StatusOr<std::unique_ptr<CausalAttention>> CreateCausalAttention(const AttentionShape& shape) = 0;
  virtual absl::StatusOr<std::unique_ptr<Gelu>> CreateGelu(int64_t elements, DataType type = DataType::kFloat32) = 0;
  virtual absl::StatusOr<std::unique_ptr<ResidualAdd>> CreateResidualAdd(int64_t elements,
                                                                         DataType type = DataType::kFloat32) = 0;
  virtual absl::StatusOr<std::unique_ptr<Dropout>> CreateDropout(const DropoutShape& shape) = 0;
  virtual absl::StatusOr<std::unique_ptr<Embedding>> CreateEmbedding(const EmbeddingShape& shape) = 0;
  virtual absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(const LinearCrossEntropyShape&) {
    return absl::UnimplementedError("this device has no output head with its loss in one operation");
  }
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_BACKEND_H_
