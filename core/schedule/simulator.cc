#include "core/schedule/simulator.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
// Work that is left below this share of the whole is rounding.
constexpr double kRoundingShare = 1e-12;

bool IsCost(double value) { return value >= 0 && std::isfinite(value); }

absl::Status CheckInput(const Schedule& schedule, const SimulationInput& input) {
  if (schedule.empty() || input.stages.size() != schedule.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("costs are given for ", input.stages.size(), " stages; the schedule has ", schedule.size()));
  }
  if (!IsCost(input.link_latency_seconds) || !IsCost(input.link_bytes_per_second)) {
    return absl::InvalidArgumentError("link latency and bandwidth must be finite and not negative");
  }
  for (const double cores : input.host_cores) {
    if (!IsCost(cores) || cores == 0) return absl::InvalidArgumentError("a host must have a finite number of cores");
  }
  for (size_t stage = 0; stage < input.stages.size(); ++stage) {
    const StageCosts& costs = input.stages[stage];
    for (const double value :
         {costs.forward_seconds, costs.backward_seconds, costs.reduce_seconds, costs.optimizer_seconds,
          costs.boundary_bytes, costs.link_latency_seconds, costs.link_bytes_per_second}) {
      if (!IsCost(value)) {
        return absl::InvalidArgumentError(absl::StrCat("stage ", stage, ": costs must be finite and not negative"));
      }
    }
    for (const HostLoad& load : costs.loads) {
      if (!IsCost(load.cores) || !IsCost(load.exchange_cores)) {
        return absl::InvalidArgumentError(absl::StrCat("stage ", stage, ": cores must be finite and not negative"));
      }
      if (!input.host_cores.empty() && (load.host < 0 || static_cast<size_t>(load.host) >= input.host_cores.size())) {
        return absl::InvalidArgumentError(
            absl::StrCat("stage ", stage, ": host ", load.host, " must be in [0, ", input.host_cores.size(), ")"));
      }
    }
    for (const Instruction& instruction : schedule[stage]) {
      if (!IsSend(instruction.op) && !IsRecv(instruction.op)) continue;
      if (instruction.peer_stage < 0 || static_cast<size_t>(instruction.peer_stage) >= schedule.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("stage ", stage, ": ", instruction.ToString(), ": there is no such stage"));
      }
    }
  }
  return absl::OkStatus();
}

// What a stage is doing at the simulation's time.
struct StageState {
  size_t next = 0;
  // The instruction at `next` has begun.
  bool begun = false;
  // Of the one under way, in seconds at full speed; 0 when it is a receive.
  double work_left = 0;
  double work = 0;
  // Cores that it asks for: none, those of a pass, or those of the exchange.
  enum class Asks { kNothing, kPass, kExchange } asks = Asks::kNothing;
};

class Simulation {
 public:
  Simulation(const Schedule& schedule, const SimulationInput& input)
      : schedule_(schedule), input_(input), states_(schedule.size()) {
    for (const auto& list : schedule) {
      result_.times.emplace_back(list.size());
      for (const Instruction& instruction : list) reductions_left_ += instruction.op == Op::kReduceGradients;
    }
    result_.busy_seconds.assign(schedule.size(), 0);
  }

  absl::StatusOr<SimulationResult> Run() {
    while (true) {
      bool moved = true;
      while (moved) {
        moved = false;
        for (size_t stage = 0; stage < states_.size(); ++stage) {
          while (Advance(stage)) moved = true;
        }
      }
      UpdateRates();
      const double step = TimeToNextEvent();
      if (step == kNever) break;
      PassTime(step);
    }
    return Finish();
  }

 private:
  // (from, to, micro-batch, is activation).
  using Message = std::tuple<size_t, size_t, int, bool>;
  // (from, to).
  using Link = std::pair<size_t, size_t>;

  const Instruction* Current(size_t stage) const {
    const StageState& state = states_[stage];
    return state.next < schedule_[stage].size() ? &schedule_[stage][state.next] : nullptr;
  }

  static bool IsActivation(Op op) { return op == Op::kSendActivation || op == Op::kRecvActivation; }

  static Message MessageOf(size_t stage, const Instruction& recv) {
    return {static_cast<size_t>(recv.peer_stage), stage, recv.micro_batch, IsActivation(recv.op)};
  }

  double WorkOf(size_t stage, Op op) const {
    const StageCosts& costs = input_.stages[stage];
    switch (op) {
      case Op::kForward:
        return costs.forward_seconds;
      case Op::kBackward:
        return costs.backward_seconds;
      case Op::kReduceGradients:
        return costs.reduce_seconds;
      case Op::kOptimizerStep:
        return costs.optimizer_seconds;
      default:
        return 0;
    }
  }

  // When the message that a receive waits for is there; kNever before it was sent.
  double ArrivalOf(size_t stage, const Instruction& recv) const {
    const auto it = arrivals_.find(MessageOf(stage, recv));
    return it == arrivals_.end() ? kNever : it->second;
  }

  void Send(size_t stage, const Instruction& send) {
    const size_t peer = static_cast<size_t>(send.peer_stage);
    // A gradient has the size of the activation that the stage before handed over.
    const double bytes = input_.stages[IsActivation(send.op) ? stage : peer].boundary_bytes;
    const StageCosts& owner = input_.stages[std::min(stage, peer)];
    const double rate = owner.link_bytes_per_second > 0 ? owner.link_bytes_per_second : input_.link_bytes_per_second;
    const double latency = owner.link_latency_seconds > 0 ? owner.link_latency_seconds : input_.link_latency_seconds;
    const double seconds = rate > 0 ? bytes / rate : 0;
    double& free_at = link_free_[Link{stage, peer}];
    free_at = std::max(free_at, now_) + seconds;
    arrivals_[Message{stage, peer, send.micro_batch, IsActivation(send.op)}] = free_at + latency;
  }

  // Begins or ends the stage's current instruction at the present time; false when it must wait.
  bool Advance(size_t stage) {
    const Instruction* instruction = Current(stage);
    if (instruction == nullptr) return false;
    StageState& state = states_[stage];
    InstructionTime& time = result_.times[stage][state.next];
    if (!state.begun) {
      if (instruction->op == Op::kOptimizerStep && reductions_left_ > 0) return false;
      state.begun = true;
      time.begin_seconds = now_;
      state.work = state.work_left = WorkOf(stage, instruction->op);
      state.asks = IsCompute(instruction->op)                           ? StageState::Asks::kPass
                   : IsSend(instruction->op) || IsRecv(instruction->op) ? StageState::Asks::kNothing
                                                                        : StageState::Asks::kExchange;
    }
    if (IsRecv(instruction->op)) {
      if (ArrivalOf(stage, *instruction) > now_) return false;
      arrivals_.erase(MessageOf(stage, *instruction));
    } else if (IsSend(instruction->op)) {
      Send(stage, *instruction);
    } else {
      if (state.work_left > state.work * kRoundingShare) return false;
      result_.busy_seconds[stage] += now_ - time.begin_seconds;
      if (instruction->op == Op::kReduceGradients) --reductions_left_;
    }
    time.end_seconds = now_;
    state = StageState{.next = state.next + 1};
    return true;
  }

  // Speed of each stage's work, 0 to 1: the share of the cores it asked for that its host gives it.
  void UpdateRates() {
    rates_.assign(states_.size(), 1);
    if (input_.host_cores.empty()) return;
    std::vector<double> asked(input_.host_cores.size(), 0);
    for (size_t stage = 0; stage < states_.size(); ++stage) {
      for (const HostLoad& load : input_.stages[stage].loads) asked[HostOf(load)] += CoresOf(stage, load);
    }
    for (size_t stage = 0; stage < states_.size(); ++stage) {
      for (const HostLoad& load : input_.stages[stage].loads) {
        if (CoresOf(stage, load) == 0) continue;
        rates_[stage] = std::min(rates_[stage], input_.host_cores[HostOf(load)] / asked[HostOf(load)]);
      }
    }
  }
  static size_t HostOf(const HostLoad& load) { return static_cast<size_t>(load.host); }
  double CoresOf(size_t stage, const HostLoad& load) const {
    const StageState::Asks asks = states_[stage].asks;
    return asks == StageState::Asks::kPass ? load.cores : asks == StageState::Asks::kExchange ? load.exchange_cores : 0;
  }

  double TimeToNextEvent() const {
    double step = kNever;
    for (size_t stage = 0; stage < states_.size(); ++stage) {
      const Instruction* instruction = Current(stage);
      if (instruction == nullptr) continue;
      // One that waits for the others' gradients has no event of its own.
      if (!states_[stage].begun) continue;
      if (IsRecv(instruction->op)) {
        step = std::min(step, ArrivalOf(stage, *instruction) - now_);
      } else {
        step = std::min(step, states_[stage].work_left / rates_[stage]);
      }
    }
    return step;
  }

  void PassTime(double step) {
    for (size_t stage = 0; stage < states_.size(); ++stage) {
      StageState& state = states_[stage];
      if (state.work_left == 0) continue;
      // Whoever ends exactly now has nothing left, whatever the subtraction says; otherwise time could stand still.
      const bool ends = state.work_left / rates_[stage] <= step;
      state.work_left = ends ? 0 : state.work_left - step * rates_[stage];
    }
    // A receive that is due must see its message, whatever the addition rounds to.
    now_ += step;
    for (auto& [message, arrival] : arrivals_) {
      if (std::abs(arrival - now_) <= now_ * kRoundingShare) arrival = std::min(arrival, now_);
    }
  }

  absl::StatusOr<SimulationResult> Finish() {
    for (size_t stage = 0; stage < states_.size(); ++stage) {
      if (const Instruction* instruction = Current(stage); instruction != nullptr) {
        return absl::FailedPreconditionError(absl::StrCat("the schedule gets stuck: stage ", stage, ", instruction ",
                                                          states_[stage].next, " (", instruction->ToString(),
                                                          ") waits for ever"));
      }
    }
    result_.makespan_seconds = now_;
    const double busy = std::accumulate(result_.busy_seconds.begin(), result_.busy_seconds.end(), 0.0);
    const double whole = now_ * static_cast<double>(states_.size());
    result_.bubble_ratio = whole > 0 ? std::clamp(1 - busy / whole, 0.0, 1.0) : 0;
    return std::move(result_);
  }

  const Schedule& schedule_;
  const SimulationInput& input_;
  double now_ = 0;
  std::vector<StageState> states_;
  std::map<Message, double> arrivals_;
  std::map<Link, double> link_free_;
  // Of the present moment, for each stage.
  std::vector<double> rates_;
  // ReduceGradients that haven't ended.
  int reductions_left_ = 0;
  SimulationResult result_;
};

}  // namespace

absl::StatusOr<SimulationResult> Simulate(const Schedule& schedule, const SimulationInput& input) {
  PENSTOCK_RETURN_IF_ERROR(CheckInput(schedule, input));
  return Simulation(schedule, input).Run();
}

}  // namespace penstock
