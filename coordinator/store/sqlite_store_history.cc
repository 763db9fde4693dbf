// Steps, events and checkpoints: written often, so never waiting for the disk.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/store/sqlite_store.h"
#include "core/base/status_macros.h"

namespace penstock {

absl::Status SqliteStore::WriteSteps(const std::string& id, uint64_t epoch, std::span<const v1::StepRecord> records,
                                     bool replace) {
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kProcessDeath));
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(id, epoch));
  for (const v1::StepRecord& record : records) {
    const std::string bytes = record.SerializeAsString();
    SqliteQuery insert =
        writer_->Query(replace ? "INSERT OR REPLACE INTO steps (job, step, record) VALUES (?1, ?2, ?3)"
                               : "INSERT OR IGNORE INTO steps (job, step, record) VALUES (?1, ?2, ?3)");
    PENSTOCK_RETURN_IF_ERROR(insert.Bind(1, id).Bind(2, record.step()).BindBlob(3, bytes).Run());
  }
  return transaction.Commit();
}

absl::Status SqliteStore::WriteValidation(const std::string& id, uint64_t epoch, uint64_t step, double loss) {
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kProcessDeath));
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(id, epoch));
  SqliteQuery insert = writer_->Query("INSERT OR REPLACE INTO validations (job, step, loss) VALUES (?1, ?2, ?3)");
  PENSTOCK_RETURN_IF_ERROR(insert.Bind(1, id).Bind(2, step).Bind(3, loss).Run());
  return transaction.Commit();
}

absl::Status SqliteStore::CutSteps(const std::string& id, uint64_t epoch, uint64_t step) {
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kProcessDeath));
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(id, epoch));
  for (const char* table : {"steps", "validations", "checkpoints"}) {
    SqliteQuery cut = writer_->Query(absl::StrCat("DELETE FROM ", table, " WHERE job = ?1 AND step > ?2"));
    PENSTOCK_RETURN_IF_ERROR(cut.Bind(1, id).Bind(2, step).Run());
  }
  return transaction.Commit();
}

absl::StatusOr<std::vector<v1::StepRecord>> SqliteStore::ReadSteps(const std::string& id, uint64_t from_step,
                                                                   size_t limit) {
  std::lock_guard lock(read_mutex_);
  std::vector<v1::StepRecord> records;
  SqliteQuery query = reader_->Query(
      "SELECT steps.step, record, loss FROM steps LEFT JOIN validations"
      " ON validations.job = steps.job AND validations.step = steps.step"
      " WHERE steps.job = ?1 AND steps.step >= ?2 ORDER BY steps.step LIMIT ?3");
  query.Bind(1, id).Bind(2, from_step).Bind(3, uint64_t{limit});
  while (query.Next()) {
    v1::StepRecord& record = records.emplace_back();
    if (!record.ParseFromString(query.Text(1))) {
      return absl::DataLossError(
          absl::StrCat("the store's record of step ", query.Integer(0), " of job ", id, " can't be read"));
    }
    if (!query.IsNull(2)) record.set_validation_loss(query.Real(2));
  }
  PENSTOCK_RETURN_IF_ERROR(query.status());
  return records;
}

absl::Status SqliteStore::AddEvents(std::span<const StoredEvent> events) {
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kProcessDeath));
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  for (const StoredEvent& event : events) {
    SqliteQuery insert = writer_->Query("INSERT INTO events (time_us, job, epoch, message) VALUES (?1, ?2, ?3, ?4)");
    insert.Bind(1, static_cast<uint64_t>(absl::ToUnixMicros(event.time))).Bind(2, event.job_id);
    PENSTOCK_RETURN_IF_ERROR(insert.Bind(3, event.epoch).Bind(4, event.message).Run());
  }
  SqliteQuery prune = writer_->Query("DELETE FROM events WHERE sequence <= (SELECT max(sequence) FROM events) - ?1");
  PENSTOCK_RETURN_IF_ERROR(prune.Bind(1, kStoredEventsMax).Run());
  return transaction.Commit();
}

absl::StatusOr<std::vector<StoredEvent>> SqliteStore::ReadEvents(const std::string& id, size_t limit) {
  std::lock_guard lock(read_mutex_);
  std::vector<StoredEvent> events;
  SqliteQuery query =
      id.empty()
          ? reader_->Query("SELECT time_us, job, epoch, message FROM events ORDER BY sequence DESC LIMIT ?1")
          : reader_->Query(
                "SELECT time_us, job, epoch, message FROM events WHERE job = ?2 ORDER BY sequence DESC LIMIT ?1");
  query.Bind(1, uint64_t{limit});
  if (!id.empty()) query.Bind(2, id);
  while (query.Next()) {
    events.push_back(
        {absl::FromUnixMicros(static_cast<int64_t>(query.Integer(0))), query.Text(1), query.Integer(2), query.Text(3)});
  }
  PENSTOCK_RETURN_IF_ERROR(query.status());
  std::reverse(events.begin(), events.end());
  return events;
}

absl::Status SqliteStore::AddCheckpoint(const std::string& id, const StoredCheckpoint& checkpoint) {
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kProcessDeath));
  // Nothing is written for a job that isn't there.
  SqliteQuery insert =
      writer_->Query("INSERT OR REPLACE INTO checkpoints (job, step, path) SELECT id, ?2, ?3 FROM jobs WHERE id = ?1");
  PENSTOCK_RETURN_IF_ERROR(insert.Bind(1, id).Bind(2, checkpoint.step).Bind(3, checkpoint.path).Run());
  return CheckChanged(id);
}

absl::StatusOr<std::vector<StoredCheckpoint>> SqliteStore::ReadCheckpoints(const std::string& id) {
  std::lock_guard lock(read_mutex_);
  std::vector<StoredCheckpoint> checkpoints;
  SqliteQuery query = reader_->Query("SELECT step, path FROM checkpoints WHERE job = ?1 ORDER BY step DESC");
  query.Bind(1, id);
  while (query.Next()) checkpoints.push_back({query.Integer(0), query.Text(1)});
  PENSTOCK_RETURN_IF_ERROR(query.status());
  return checkpoints;
}

}  // namespace penstock
