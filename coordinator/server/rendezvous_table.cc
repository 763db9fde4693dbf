#include "coordinator/server/rendezvous_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {

absl::StatusOr<RendezvousTable::Epoch*> RendezvousTable::Find(const std::string& job_id, uint64_t epoch) {
  const auto found = epochs_.find(job_id);
  if (found == epochs_.end()) {
    return absl::FailedPreconditionError(absl::StrCat("job ", job_id, " has no epoch under way"));
  }
  if (found->second.epoch != epoch) {
    return absl::FailedPreconditionError(
        absl::StrCat("epoch ", epoch, " of job ", job_id, " isn't the present one, ", found->second.epoch));
  }
  return &found->second;
}

void RendezvousTable::Give(std::vector<Answer> answers) {
  for (Answer& answer : answers) answer.done(std::move(answer.values));
}

std::vector<RendezvousTable::Answer> RendezvousTable::EndLocked(const std::string& job_id) {
  std::vector<Answer> answers;
  const auto found = epochs_.find(job_id);
  if (found == epochs_.end()) return answers;
  for (const uint64_t number : found->second.waiters) {
    const auto waiter = waiters_.find(number);
    answers.push_back(
        {std::move(waiter->second.done),
         absl::AbortedError(absl::StrCat("epoch ", found->second.epoch, " of job ", job_id, " is over"))});
    waiters_.erase(waiter);
  }
  epochs_.erase(found);
  return answers;
}

void RendezvousTable::Begin(const std::string& job_id, uint64_t epoch) {
  std::vector<Answer> answers;
  {
    std::lock_guard lock(mutex_);
    const auto found = epochs_.find(job_id);
    if (found != epochs_.end() && found->second.epoch == epoch) return;
    answers = EndLocked(job_id);
    epochs_[job_id].epoch = epoch;
  }
  Give(std::move(answers));
}

void RendezvousTable::End(const std::string& job_id) {
  std::vector<Answer> answers;
  {
    std::lock_guard lock(mutex_);
    answers = EndLocked(job_id);
  }
  Give(std::move(answers));
}

bool RendezvousTable::Complete(const Epoch& epoch, const std::vector<std::string>& keys,
                               std::vector<std::string>* values) {
  for (const std::string& key : keys) {
    if (!epoch.values.contains(key)) return false;
  }
  for (const std::string& key : keys) values->push_back(epoch.values.at(key));
  return true;
}

absl::Status RendezvousTable::Set(const std::string& job_id, uint64_t epoch, const std::string& key,
                                  const std::string& value) {
  if (key.empty()) return absl::InvalidArgumentError("a key is missing");
  if (key.size() > kRendezvousKeyBytesMax || value.size() > kRendezvousValueBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a key has at most ", kRendezvousKeyBytesMax, " bytes, a value ", kRendezvousValueBytesMax));
  }
  std::vector<Answer> answers;
  {
    std::lock_guard lock(mutex_);
    PENSTOCK_ASSIGN_OR_RETURN(Epoch * present, Find(job_id, epoch));
    if (!present->values.contains(key) && present->values.size() >= kRendezvousKeysMax) {
      return absl::ResourceExhaustedError(absl::StrCat("an epoch has at most ", kRendezvousKeysMax, " keys"));
    }
    if (present->bytes + key.size() + value.size() > kRendezvousBytesMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("an epoch's values have at most ", kRendezvousBytesMax, " bytes"));
    }
    std::string& stored = present->values[key];
    present->bytes += key.size() + value.size() - stored.size();
    stored = value;
    for (auto number = present->waiters.begin(); number != present->waiters.end();) {
      const auto waiter = waiters_.find(*number);
      std::vector<std::string> values;
      if (!Complete(*present, waiter->second.keys, &values)) {
        ++number;
        continue;
      }
      answers.push_back({std::move(waiter->second.done), std::move(values)});
      waiters_.erase(waiter);
      number = present->waiters.erase(number);
    }
  }
  Give(std::move(answers));
  return absl::OkStatus();
}

uint64_t RendezvousTable::Wait(const std::string& job_id, uint64_t epoch, std::vector<std::string> keys, Done done) {
  absl::StatusOr<std::vector<std::string>> answer;
  {
    std::lock_guard lock(mutex_);
    const absl::StatusOr<Epoch*> present = Find(job_id, epoch);
    std::vector<std::string> values;
    if (!present.ok()) {
      answer = present.status();
    } else if (keys.empty() || keys.size() > kRendezvousKeysMax) {
      answer = absl::InvalidArgumentError(absl::StrCat("1 to ", kRendezvousKeysMax, " keys are asked for at once"));
    } else if (Complete(**present, keys, &values)) {
      answer = std::move(values);
    } else if (waiters_.size() >= kRendezvousWaitersMax) {
      answer = absl::ResourceExhaustedError(absl::StrCat("more than ", kRendezvousWaitersMax, " calls wait"));
    } else {
      const uint64_t number = next_waiter_++;
      (*present)->waiters.insert(number);
      waiters_[number] = {job_id, std::move(keys), std::move(done)};
      return number;
    }
  }
  done(std::move(answer));
  return 0;
}

void RendezvousTable::Cancel(uint64_t waiter) {
  std::vector<Answer> answers;
  {
    std::lock_guard lock(mutex_);
    const auto found = waiters_.find(waiter);
    if (found == waiters_.end()) return;
    epochs_.at(found->second.job_id).waiters.erase(waiter);
    answers.push_back({std::move(found->second.done), absl::CancelledError("the caller has given up")});
    waiters_.erase(found);
  }
  Give(std::move(answers));
}

}  // namespace penstock
