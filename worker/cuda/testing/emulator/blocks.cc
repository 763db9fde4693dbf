// The threads of a block, as fibers: everything here belongs to the device's thread.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "worker/cuda/testing/emulator/traffic.h"

#if !defined(__x86_64__)
#error "the emulator switches between its fibers in x86-64's way"
#endif

// Keeps what a function must keep on the stack, puts the stack pointer into *from and goes on where `to` was kept.
// (swapcontext asks the kernel for the signal mask each time, which is most of a kernel's time.)
extern "C" void penstock_emulator_switch(void** from, void* to);
asm(R"(
.text
.globl penstock_emulator_switch
.type penstock_emulator_switch, @function
penstock_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size penstock_emulator_switch, .-penstock_emulator_switch
)");

namespace penstock::cuda::emulator {

dim3 thread_index, block_index, block_size, grid_size;
std::byte* dynamic_shared = nullptr;

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kThreadsMax = 1024;
constexpr size_t kStackBytes = 64 << 10;

// A barrier of the threads that haven't ended.
struct Barrier {
  unsigned live = 0;
  unsigned arrived = 0;
  uint64_t generation = 0;

  void ReleaseIfComplete() {
    if (arrived == 0 || arrived < live) return;
    arrived = 0;
    ++generation;
  }
};

struct Warp {
  Barrier barrier;
  uint64_t slots[kWarp] = {};
  WarpTile tile;
};

// A copy that was asked for and isn't waited for yet.
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  bool valid;
  int group;
};

struct Fiber {
  void* kept = nullptr;  // its stack pointer while it doesn't run
  std::unique_ptr<std::byte[]> stack{new std::byte[kStackBytes]};
  dim3 index;
  bool done = false;
  std::vector<Copy> copies;
  int groups = 0;  // committed so far
};

// Never destroyed: the device may run while the process ends.
std::vector<Fiber>& fibers = *new std::vector<Fiber>;
std::vector<Warp>& warps = *new std::vector<Warp>;
Barrier block_barrier;
int votes = 0;
void* scheduler = nullptr;
unsigned current = 0;
const std::function<void()>* body = nullptr;

void Yield() { penstock_emulator_switch(&fibers[current].kept, scheduler); }

void Await(Barrier& barrier) {
  const uint64_t generation = barrier.generation;
  ++barrier.arrived;
  barrier.ReleaseIfComplete();
  while (barrier.generation == generation) Yield();
}

void Main() {
  (*body)();
  fibers[current].done = true;
  Warp& warp = warps[current / kWarp];
  --warp.barrier.live;
  warp.barrier.ReleaseIfComplete();
  --block_barrier.live;
  block_barrier.ReleaseIfComplete();
  Yield();
}

// Which threads run as far as their next barrier, and in which order: others each time, and whole warps not at all, so
// that a barrier that is missing shows in the results. The same ones in each process.
class Orders {
 public:
  const std::vector<unsigned>& Next(unsigned threads) {
    if (order_.size() != threads) {
      order_.resize(threads);
      std::iota(order_.begin(), order_.end(), 0u);
    }
    std::shuffle(order_.begin(), order_.end(), generator_);
    waiting_ = threads > kWarp ? generator_() : 0;
    return order_;
  }
  // Whether the thread's warp waits while the others run.
  bool Waits(unsigned thread) const { return (waiting_ >> thread / kWarp & 1) != 0; }

 private:
  std::vector<unsigned> order_;
  std::mt19937 generator_;
  uint32_t waiting_ = 0;
};
Orders orders;

// Copies land as soon as they are asked for in some blocks, and not before they are waited for in others.
bool copies_land_early = false;

void RunBlock(unsigned threads) {
  copies_land_early = !copies_land_early;
  warps.assign((threads + kWarp - 1) / kWarp, Warp());
  block_barrier = {.live = threads};
  for (unsigned i = 0; i < threads; ++i) {
    ++warps[i / kWarp].barrier.live;
    Fiber& fiber = fibers[i];
    fiber.done = false;
    fiber.copies.clear();
    fiber.groups = 0;
    fiber.index = dim3(i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y);
    // As if Main had just been called, by nobody: six kept registers, and where to return to.
    auto* top = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(fiber.stack.get() + kStackBytes) & ~15ul);
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(&Main);
    for (int i_kept = 0; i_kept < 6; ++i_kept) *--top = 0;
    fiber.kept = top;
  }
  for (unsigned done = 0; done < threads;) {
    for (const unsigned thread : orders.Next(threads)) {
      current = thread;
      if (fibers[current].done || orders.Waits(current)) continue;
      thread_index = fibers[current].index;
      penstock_emulator_switch(&scheduler, fibers[current].kept);
      if (fibers[current].done) ++done;
    }
  }
  CountBlockEnd();
}

}  // namespace

bool CanRun(dim3 grid, dim3 block) {
  const unsigned threads = block.x * block.y * block.z;
  return threads > 0 && threads <= kThreadsMax && grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y <= 65535 &&
         grid.z <= 65535;
}

void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& run) {
  const unsigned threads = block.x * block.y * block.z;
  if (fibers.size() < threads) fibers = std::vector<Fiber>(threads);
  // Garbage at the start of a block, as on a device.
  std::vector<std::byte> shared(shared_bytes, std::byte{0xff});
  dynamic_shared = shared.data();
  body = &run;
  block_size = block;
  grid_size = grid;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = dim3(x, y, z);
        RunBlock(threads);
      }
    }
  }
}

void SyncBlock() {
  Await(block_barrier);
  thread_index = fibers[current].index;
}

unsigned Lane() { return current % kWarp; }

uint64_t Exchange(uint64_t value, unsigned from) {
  Warp& warp = warps[current / kWarp];
  warp.slots[current % kWarp] = value;
  Await(warp.barrier);
  const uint64_t result = warp.slots[from % kWarp];
  Await(warp.barrier);
  return result;
}

void SyncWarp() { Await(warps[current / kWarp].barrier); }

WarpTile& TileOfWarp() { return warps[current / kWarp].tile; }

void Land(const Copy& copy) {
  if (copy.valid) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  } else {
    std::memset(copy.to, 0, copy.bytes);
  }
}

void CopyAsync(void* to, const void* from, size_t bytes, bool valid) {
  const auto misaligned = [&](const void* at) { return reinterpret_cast<uintptr_t>(at) % bytes != 0; };
  if (misaligned(to) || misaligned(from)) std::abort();  // as a device ends the kernel
  if (bytes == 16) {
    CountCopy(current / kWarp, current % kWarp, __builtin_return_address(0), to, from, valid);
  }
  const Copy copy = {to, from, bytes, valid, fibers[current].groups};
  if (copies_land_early) return Land(copy);
  fibers[current].copies.push_back(copy);
}

void CommitCopies() { ++fibers[current].groups; }

void WaitForCopies(int pending) {
  Fiber& fiber = fibers[current];
  std::erase_if(fiber.copies, [&](const Copy& copy) {
    if (copy.group >= fiber.groups - pending) return false;
    Land(copy);
    return true;
  });
}

int CountInBlock(bool value) {
  SyncBlock();
  if (current == 0) votes = 0;
  SyncBlock();
  votes += value ? 1 : 0;
  SyncBlock();
  return votes;
}

}  // namespace penstock::cuda::emulator
