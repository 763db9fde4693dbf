// The emulator by itself: what it must do in order, and what it must not.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "worker/cuda/testing/emulator/streams.h"

namespace penstock::cuda {
namespace {

void Set(int* at, int value) { *at = value; }
void Append(int* list, int value) { list[++list[0]] = value; }

int* OnDevice(size_t count) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, count * sizeof(int)), cudaSuccess);
  EXPECT_EQ(cudaMemset(memory, 0, count * sizeof(int)), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  return static_cast<int*>(memory);
}
int* Pinned(size_t count) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMallocHost(&memory, count * sizeof(int)), cudaSuccess);
  std::memset(memory, 0, count * sizeof(int));
  return static_cast<int*>(memory);
}
cudaStream_t NewStream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, flags), cudaSuccess);
  return stream;
}
cudaEvent_t NewEvent() {
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  return event;
}
cudaError_t GiveSet(int* at, int value, cudaStream_t stream) {
  return Launch(Set, dim3(1), dim3(1), 0, stream, at, value);
}
cudaError_t GiveAppend(int* list, int value, cudaStream_t stream) {
  return Launch(Append, dim3(1), dim3(1), 0, stream, list, value);
}
std::vector<int> Read(const int* at, size_t count) {
  std::vector<int> values(count);
  EXPECT_EQ(cudaMemcpy(values.data(), at, count * sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
  return values;
}

// What many runs of `run` give: one of each.
std::set<std::vector<int>> Outcomes(const std::function<std::vector<int>()>& run) {
  std::set<std::vector<int>> outcomes;
  for (int i = 0; i < 200; ++i) outcomes.insert(run());
  return outcomes;
}

TEST(EmulatorTest, AStreamKeepsItsOrder) {
  int* const list = OnDevice(101);
  const cudaStream_t stream = NewStream();
  for (int i = 0; i < 100; ++i) ASSERT_EQ(GiveAppend(list, i, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  const std::vector<int> values = Read(list, 101);
  ASSERT_EQ(values[0], 100);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(values[static_cast<size_t>(i) + 1], i);
  EXPECT_EQ(cudaFree(list), cudaSuccess);
}

// The values of two streams that each append two.
std::vector<int> Interleaved(cudaStream_t a, cudaStream_t b, const std::function<void()>& between) {
  int* const list = OnDevice(5);
  EXPECT_EQ(GiveAppend(list, 1, a), cudaSuccess);
  EXPECT_EQ(GiveAppend(list, 2, a), cudaSuccess);
  between();
  EXPECT_EQ(GiveAppend(list, 3, b), cudaSuccess);
  EXPECT_EQ(GiveAppend(list, 4, b), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::vector<int> values = Read(list, 5);
  EXPECT_EQ(cudaFree(list), cudaSuccess);
  return values;
}

TEST(EmulatorTest, StreamsHaveNoOrderBetweenThem) {
  const cudaStream_t a = NewStream();
  const cudaStream_t b = NewStream();
  const auto outcomes = Outcomes([&] { return Interleaved(a, b, [] {}); });
  EXPECT_GE(outcomes.size(), 4u);
  EXPECT_EQ(outcomes.count({4, 1, 2, 3, 4}), 1u);
  EXPECT_EQ(outcomes.count({4, 3, 4, 1, 2}), 1u);
}

TEST(EmulatorTest, AnEventOrdersThem) {
  const cudaStream_t a = NewStream();
  const cudaStream_t b = NewStream();
  const cudaEvent_t event = NewEvent();
  const auto outcomes = Outcomes([&] {
    return Interleaved(a, b, [&] {
      EXPECT_EQ(cudaEventRecord(event, a), cudaSuccess);
      EXPECT_EQ(cudaStreamWaitEvent(b, event, 0), cudaSuccess);
      // What it is recorded for afterwards doesn't matter.
      EXPECT_EQ(cudaEventRecord(event, b), cudaSuccess);
    });
  });
  EXPECT_EQ(outcomes, (std::set<std::vector<int>>{{4, 1, 2, 3, 4}}));
}

TEST(EmulatorTest, TheDefaultStreamWaitsForBlockingStreamsAndTheyForIt) {
  const cudaStream_t blocking = NewStream(cudaStreamDefault);
  const cudaStream_t beside = NewStream();
  const std::set<std::vector<int>> in_order = {{4, 1, 2, 3, 4}};
  EXPECT_EQ(Outcomes([&] { return Interleaved(nullptr, blocking, [] {}); }), in_order);
  EXPECT_EQ(Outcomes([&] { return Interleaved(blocking, nullptr, [] {}); }), in_order);
  EXPECT_GT(Outcomes([&] { return Interleaved(nullptr, beside, [] {}); }).size(), 1u);
  EXPECT_GT(Outcomes([&] { return Interleaved(beside, nullptr, [] {}); }).size(), 1u);
}

TEST(EmulatorTest, AnEventIsDoneWhenItsStreamIsThere) {
  const cudaStream_t stream = NewStream();
  const cudaEvent_t event = NewEvent();
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);  // never recorded
  int* const at = OnDevice(1);
  int not_ready = 0;
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(GiveSet(at, i, stream), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(event, stream), cudaSuccess);
    while (cudaEventQuery(event) == cudaErrorNotReady) ++not_ready;
    EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
    EXPECT_EQ(Read(at, 1)[0], i);
  }
  EXPECT_GT(not_ready, 0);
  ASSERT_EQ(GiveSet(at, -1, stream), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(Read(at, 1)[0], -1);
  EXPECT_EQ(cudaFree(at), cudaSuccess);
}

TEST(EmulatorTest, PinnedMemoryIsReadLateAndIsGarbageUntilItIsWritten) {
  int* const host = Pinned(1);
  int* const at = OnDevice(1);
  int late = 0;
  for (int i = 0; i < 50; ++i) {
    *host = 1;
    ASSERT_EQ(cudaMemcpyAsync(at, host, sizeof(int), cudaMemcpyDefault, nullptr), cudaSuccess);
    *host = 2;  // too early
    late += Read(at, 1)[0] == 2 ? 1 : 0;
  }
  EXPECT_GT(late, 5);
  ASSERT_EQ(GiveSet(at, 7, nullptr), cudaSuccess);
  *host = 0;
  ASSERT_EQ(cudaMemcpyAsync(host, at, sizeof(int), cudaMemcpyDefault, nullptr), cudaSuccess);
  const int early = *host;
  ASSERT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  EXPECT_NE(early, 0);
  EXPECT_EQ(*host, 7);
  EXPECT_EQ(cudaFree(at), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
}

TEST(EmulatorTest, PageableMemoryIsReadAtOnce) {
  int* const at = OnDevice(1);
  for (int i = 0; i < 50; ++i) {
    int value = i;
    ASSERT_EQ(cudaMemcpyAsync(at, &value, sizeof(int), cudaMemcpyDefault, nullptr), cudaSuccess);
    value = -1;
    EXPECT_EQ(Read(at, 1)[0], i);
  }
  EXPECT_EQ(cudaFree(at), cudaSuccess);
}

TEST(EmulatorTest, AFreeWaitsForTheDevice) {
  int* const host = Pinned(1);
  int* const at = OnDevice(1);
  const cudaStream_t stream = NewStream();
  ASSERT_EQ(GiveSet(at, 7, stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(host, at, sizeof(int), cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(cudaFree(at), cudaSuccess);
  EXPECT_EQ(*host, 7);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
}

TEST(EmulatorTest, WorkIsDoneSomeTimeThoughNobodyWaits) {
  int* const host = Pinned(1);
  *host = 0;
  int* const at = OnDevice(1);
  ASSERT_EQ(GiveSet(at, 7, nullptr), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(host, at, sizeof(int), cudaMemcpyDefault, nullptr), cudaSuccess);
  while (*const_cast<volatile int*>(host) != 7) {
  }
  EXPECT_EQ(cudaFree(at), cudaSuccess);
}

TEST(EmulatorTest, APollHoldsUpItsStreamAlone) {
  int* const list = OnDevice(3);
  const cudaStream_t held = NewStream();
  const cudaStream_t other = NewStream();
  std::atomic<bool> ready = false;
  ASSERT_EQ(emulator::EnqueuePoll(held, [&] { return ready.load(); }), cudaSuccess);
  ASSERT_EQ(GiveAppend(list, 1, held), cudaSuccess);
  ASSERT_EQ(GiveAppend(list, 2, other), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  ready = true;
  emulator::Notify();
  EXPECT_EQ(cudaStreamSynchronize(held), cudaSuccess);
  EXPECT_EQ(Read(list, 3), (std::vector<int>{2, 2, 1}));
  EXPECT_EQ(cudaFree(list), cudaSuccess);
}

TEST(EmulatorTest, RefusesWhatADeviceRefuses) {
  int* const at = OnDevice(4);
  int value = 0;
  EXPECT_EQ(Launch(Set, dim3(1), dim3(2048), 0, nullptr, at, 1), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaMemcpyAsync(at, &value, 1 << 20, cudaMemcpyDefault, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(at, &value, 4, cudaMemcpyDeviceToHost, nullptr), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaSetDevice(1000), cudaErrorInvalidDevice);
  const cudaStream_t stream = NewStream();
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  // Another device's default stream, and its events.
  const cudaEvent_t event = NewEvent();
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(at, 0, 4, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cudaEventRecord(event, nullptr), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaFree(at), cudaSuccess);
  EXPECT_EQ(cudaFree(at), cudaErrorInvalidValue);
}

TEST(EmulatorTest, ElapsedTimeNeedsTwoEventsThatMeasure) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  ASSERT_EQ(cudaEventCreate(&begin), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  float ms = -1;
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaEventRecord(begin, nullptr), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, nullptr), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaSuccess);
  EXPECT_GE(ms, 0);
}

TEST(EmulatorDeathTest, TheHostCantTouchADevicesMemory) {
  int* const at = OnDevice(1);
  EXPECT_DEATH(*at = 1, "");
  EXPECT_DEATH(std::printf("%d", *const_cast<volatile int*>(at)), "");
}

TEST(EmulatorDeathTest, PinnedMemoryIsFreedAfterItsCopies) {
  int* const host = Pinned(1);
  int* const at = OnDevice(1);
  const cudaStream_t stream = NewStream();
  // Held up, so that the copy is still on its way.
  std::atomic<bool> ready = false;
  ASSERT_EQ(emulator::EnqueuePoll(stream, [&] { return ready.load(); }), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(host, at, sizeof(int), cudaMemcpyDefault, stream), cudaSuccess);
  EXPECT_DEATH(cudaFreeHost(host), "a copy still uses");
  ready = true;
  emulator::Notify();
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
}

}  // namespace
}  // namespace penstock::cuda
