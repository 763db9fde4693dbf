#include "worker/ops/cuda/stream_clock.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <vector>

#include "services/base/clock.h"

namespace penstock::cuda {
namespace {

// Times from mark to mark are the device's. Where they lie on the host's axis is known to no more than this: a mark is
// passed after it was given to the stream and before the host sees that it was. Each mark is put between the two, so
// the device's clock never drifts away from the host's.
class EventClock : public StreamClock {
 public:
  explicit EventClock(cudaStream_t stream) : stream_(stream) {}
  ~EventClock() override {
    for (const Point& point : points_) cudaEventDestroy(point.event);
    for (const cudaEvent_t event : idle_) cudaEventDestroy(event);
    if (last_.has_value()) cudaEventDestroy(last_->event);
  }

  bool Mark() override {
    Point point;
    if (!idle_.empty()) {
      point.event = idle_.back();
      idle_.pop_back();
    } else if (cudaEventCreateWithFlags(&point.event, cudaEventDefault) != cudaSuccess) {
      return false;
    }
    point.time = Clock::Real()->Monotonic();
    if (cudaEventRecord(point.event, stream_) != cudaSuccess) {
      idle_.push_back(point.event);
      return false;
    }
    points_.push_back(point);
    return true;
  }

  void Take(std::vector<absl::Time>* times) override {
    while (!points_.empty() && cudaEventQuery(points_.front().event) == cudaSuccess) {
      Point point = points_.front();
      points_.pop_front();
      const absl::Time seen = Clock::Real()->Monotonic();
      absl::Time passed = point.time;
      if (last_.has_value()) {
        float milliseconds = 0;
        if (cudaEventElapsedTime(&milliseconds, last_->event, point.event) == cudaSuccess) {
          passed = last_->time + absl::Milliseconds(std::max(milliseconds, 0.0f));
        }
        idle_.push_back(last_->event);
      }
      point.time = std::clamp(passed, point.time, seen);
      last_ = point;
      times->push_back(point.time);
    }
  }

 private:
  struct Point {
    cudaEvent_t event = nullptr;
    // When it was given to the stream; of the last one that was passed, when that was.
    absl::Time time;
  };

  const cudaStream_t stream_;
  std::deque<Point> points_;
  std::vector<cudaEvent_t> idle_;
  std::optional<Point> last_;
};

}  // namespace

std::unique_ptr<StreamClock> MakeStreamClock(cudaStream_t stream) { return std::make_unique<EventClock>(stream); }

}  // namespace penstock::cuda
