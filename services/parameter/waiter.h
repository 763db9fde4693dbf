// Something that waits for a job's state to change.
#ifndef PENSTOCK_SERVICES_PARAMETER_WAITER_H_
#define PENSTOCK_SERVICES_PARAMETER_WAITER_H_

#include <memory>

namespace penstock {

class Waiter {
 public:
  virtual ~Waiter() = default;
  // The state may have changed: ask again. Called from any thread, without a lock; must not block.
  virtual void Wake() = 0;
};
using WaiterPtr = std::shared_ptr<Waiter>;

// What a call that may have to wait comes back with.
enum class Progress {
  kDone,
  // The waiter was registered, will be woken once, and then calls again.
  kWaiting,
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_WAITER_H_
