// A thin parameter shard around the real ShardStep: a few numbers for weights, data work that takes (virtual) time,
// waiters that are woken as shard_step.h says, snapshots at checkpoint steps. Reports to the checkers after every
// event.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/commit/shard_step.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "tests/simulation/world.h"

namespace penstock::simulation {

class SimShard {
 public:
  template <typename Reply>
  using Answer = Network::Answer<Reply>;
  struct Empty {};

  SimShard(World& world, int index);

  Node& node() { return node_; }
  const std::string& name() const { return node_.name; }
  void Crash();
  void Restart();

  // --- The RPCs; each runs in the shard's node. ---
  // `state` is the shard's part of version `step`.
  void Open(uint64_t epoch, uint64_t step, const State& state, Answer<uint64_t> answer);
  void Close(uint64_t epoch, Answer<Empty> answer);
  // `kind`: 0 for gradients, else as in ShardStep::OnChunk and State.
  void Push(uint64_t epoch, uint64_t step, ElementRange range, int kind, const std::vector<double>& numbers,
            Answer<Empty> answer);
  void Pull(uint64_t epoch, uint64_t version, ElementRange range, int kind, Answer<std::vector<double>> answer);
  void Prepare(uint64_t epoch, uint64_t step, const v1::StepInputs& inputs, Answer<v1::PreparedStep> answer);
  // `records`: of a published job, of the steps between.
  void Commit(uint64_t epoch, const v1::StepDecision& decision, const std::vector<v1::StepRecord>& records,
              Answer<uint64_t> answer);
  void Seal(uint64_t epoch, Answer<v1::SealResponse> answer);
  void Decide(uint64_t epoch, uint64_t step, const std::optional<v1::StepDecision>& decision,
              Answer<v1::DecideResponse> answer);
  void WriteCheckpoint(uint64_t step, Answer<State> answer);
  void GetSteps(uint64_t from_step, Answer<v1::GetStepsResponse> answer);
  // The process's incarnation.
  void Ping(Answer<uint64_t> answer) { answer(incarnation_); }

 private:
  struct Job {
    std::unique_ptr<ShardStep> step;
    ElementRange range;
    State state;
    std::vector<double> gradient;
    std::map<uint64_t, State> snapshots;
    std::vector<v1::StepRecord> records;
    // Of this opening: timers of an earlier one do nothing.
    uint64_t opening = 0;
  };
  // Tries to answer; false means: not yet.
  struct Waiter {
    absl::Time until;
    std::function<bool()> attempt;
  };

  // What the checkers compare before and after an event.
  struct View {
    bool open = false;
    uint64_t lineage = 0;
    uint64_t sealed = 0;
    uint64_t committed = 0;
    std::string report;
    std::optional<uint64_t> prepared;
    State state;
  };
  View Look() const;
  void Check(const char* message, uint64_t epoch, const View& before, PreparedChecker::Cause cause, bool wrote = false);

  void Serve(std::function<bool()> attempt);
  void Wake();
  void StartUpdate();
  void FinishUpdate();
  void Write(const ShardStep::ChunkPlan& plan, ElementRange range, const std::vector<double>& numbers);
  void Sum(const ShardStep::WholePiece& piece);
  // Runs `work` after some time, unless the job was closed or opened anew meanwhile.
  void Work(std::function<void()> work);
  // The epoch that the event is judged by.
  uint64_t Believe(uint64_t epoch) const;
  void MaybeDropPrepared(uint64_t step);
  void ForgetOpenStep();

  World& world_;
  const int index_;
  Node node_;
  uint64_t incarnation_ = 0;
  uint64_t openings_ = 0;
  std::optional<Job> job_;
  std::vector<Waiter> waiters_;
  bool wake_scheduled_ = false;
};

}  // namespace penstock::simulation
