// Opening the store; jobs and epochs. Steps, events and checkpoints are in sqlite_store_history.cc.
#include "coordinator/store/sqlite_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "coordinator/store/sqlite_schema.h"
#include "core/base/status_macros.h"
#include "core/commit/job_state.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path) {
  PENSTOCK_ASSIGN_OR_RETURN(auto lock, FileLock::Take(absl::StrCat(path, ".lock")));
  PENSTOCK_ASSIGN_OR_RETURN(auto writer, SqliteDatabase::Open(path));
  PENSTOCK_RETURN_IF_ERROR(PrepareSchema(writer.get(), path));
  PENSTOCK_RETURN_IF_ERROR(writer->Execute("PRAGMA synchronous=FULL"));
  PENSTOCK_ASSIGN_OR_RETURN(auto reader, SqliteDatabase::Open(path));
  PENSTOCK_RETURN_IF_ERROR(reader->Execute("PRAGMA query_only=1"));
  return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(lock), std::move(writer), std::move(reader)));
}

// In the write-ahead log FULL waits for the disk at each commit, NORMAL doesn't; both keep the file sound.
absl::Status SqliteStore::SetDurability(Durability durability) {
  if (durability == durability_) return absl::OkStatus();
  PENSTOCK_RETURN_IF_ERROR(
      writer_->Execute(durability == Durability::kPowerLoss ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
  durability_ = durability;
  return absl::OkStatus();
}

absl::Status SqliteStore::CheckChanged(const std::string& id) {
  if (writer_->changes() > 0) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("the store has no job ", id));
}

absl::Status SqliteStore::CheckEpoch(const std::string& id, uint64_t epoch) {
  SqliteQuery query = writer_->Query("SELECT epoch FROM jobs WHERE id = ?1");
  query.Bind(1, id);
  if (!query.Next()) {
    PENSTOCK_RETURN_IF_ERROR(query.status());
    return absl::NotFoundError(absl::StrCat("the store has no job ", id));
  }
  if (query.Integer(0) <= epoch) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the store's epoch of job ", id, " is ", query.Integer(0), ", newer than ", epoch));
}

absl::Status SqliteStore::AddJob(const StoredJob& job) {
  const std::string spec = job.spec.SerializeAsString();
  const std::string shown = job.shown.SerializeAsString();
  const std::string shards = absl::StrJoin(job.shards, ",");
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kPowerLoss));
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  SqliteQuery insert = writer_->Query(
      "INSERT INTO jobs (id, request_id, spec, submitted_us, shards, state, message, epoch, open_epoch, base_step,"
      " recoveries, recoveries_without_progress, finished, shards_open, shown)"
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0, 0, 0, 0, ?9)");
  insert.Bind(1, job.id).Bind(2, job.request_id).BindBlob(3, spec);
  insert.Bind(4, static_cast<uint64_t>(absl::ToUnixMicros(job.submitted_at))).Bind(5, shards);
  insert.Bind(6, uint64_t{static_cast<uint32_t>(job.persisted.state)}).Bind(7, job.persisted.message);
  insert.Bind(8, job.persisted.epoch).BindBlob(9, shown);
  PENSTOCK_RETURN_IF_ERROR(insert.Run());
  return transaction.Commit();
}

absl::StatusOr<std::vector<StoredJob>> SqliteStore::LoadJobs() {
  std::lock_guard lock(read_mutex_);
  std::vector<StoredJob> jobs;
  SqliteQuery query = reader_->Query(
      "SELECT id, request_id, spec, submitted_us, shards, base_step, state, message, epoch, open_epoch, recoveries,"
      " recoveries_without_progress, finished, shards_open, shown FROM jobs ORDER BY sequence");
  while (query.Next()) {
    StoredJob job;
    job.id = query.Text(0);
    job.request_id = query.Text(1);
    if (!job.spec.ParseFromString(query.Text(2)) || !job.shown.ParseFromString(query.Text(14))) {
      return absl::DataLossError(absl::StrCat("the store's row of job ", job.id, " can't be read"));
    }
    job.submitted_at = absl::FromUnixMicros(static_cast<int64_t>(query.Integer(3)));
    const std::string shards = query.Text(4);
    if (!shards.empty()) job.shards = absl::StrSplit(shards, ',');
    job.persisted.base_step = query.Integer(5);
    job.persisted.state = static_cast<v1::JobState>(query.Integer(6));
    job.persisted.message = query.Text(7);
    job.persisted.epoch = query.Integer(8);
    job.persisted.open_epoch = query.Integer(9);
    job.persisted.recoveries = static_cast<uint32_t>(query.Integer(10));
    job.persisted.recoveries_without_progress = static_cast<uint32_t>(query.Integer(11));
    job.persisted.finished = query.Integer(12) != 0;
    job.persisted.shards_open = query.Integer(13) != 0;
    jobs.push_back(std::move(job));
  }
  PENSTOCK_RETURN_IF_ERROR(query.status());
  return jobs;
}

absl::Status SqliteStore::RemoveJob(const std::string& id) {
  std::lock_guard lock(write_mutex_);
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  PENSTOCK_RETURN_IF_ERROR(writer_->Query("DELETE FROM jobs WHERE id = ?1").Bind(1, id).Run());
  for (const char* table : {"epochs", "steps", "validations", "events", "checkpoints"}) {
    PENSTOCK_RETURN_IF_ERROR(writer_->Query(absl::StrCat("DELETE FROM ", table, " WHERE job = ?1")).Bind(1, id).Run());
  }
  return transaction.Commit();
}

absl::Status SqliteStore::UpdateJob(const std::string& id, const PersistedJob& job, const v1::JobStatus* shown) {
  const std::string shown_bytes = shown != nullptr ? shown->SerializeAsString() : std::string();
  SqliteQuery update = writer_->Query(
      "UPDATE jobs SET state = ?2, message = ?3, epoch = ?4, open_epoch = ?5, recoveries = ?6,"
      " recoveries_without_progress = ?7, finished = ?8, shards_open = ?9, base_step = ?12,"
      " shown = CASE WHEN ?10 THEN ?11 ELSE shown END WHERE id = ?1");
  update.Bind(1, id).Bind(2, uint64_t{static_cast<uint32_t>(job.state)}).Bind(3, job.message).Bind(4, job.epoch);
  update.Bind(5, job.open_epoch).Bind(6, uint64_t{job.recoveries});
  update.Bind(7, uint64_t{job.recoveries_without_progress}).Bind(8, uint64_t{job.finished});
  update.Bind(9, uint64_t{job.shards_open})
      .Bind(10, uint64_t{shown != nullptr})
      .BindBlob(11, shown_bytes)
      .Bind(12, job.base_step);
  return update.Run();
}

absl::Status SqliteStore::PersistEpoch(const std::string& id, const std::string& coordinator, const PersistedJob& job,
                                       absl::Time now) {
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kPowerLoss));
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  uint64_t held = 0;
  std::string holder;
  {
    SqliteQuery query = writer_->Query(
        "SELECT jobs.epoch, coalesce(epochs.coordinator, ''), jobs.state FROM jobs LEFT JOIN epochs"
        " ON epochs.job = jobs.id AND epochs.epoch = jobs.epoch WHERE jobs.id = ?1");
    query.Bind(1, id);
    if (!query.Next()) {
      PENSTOCK_RETURN_IF_ERROR(query.status());
      return absl::NotFoundError(absl::StrCat("the store has no job ", id));
    }
    held = query.Integer(0);
    holder = query.Text(1);
    if (IsEnded(static_cast<v1::JobState>(query.Integer(2)))) {
      return absl::FailedPreconditionError(absl::StrCat("job ", id, " has ended"));
    }
  }
  const bool again = held == job.epoch && holder == coordinator;
  if (held + 1 != job.epoch && !again) {
    return absl::FailedPreconditionError(absl::StrCat("the store's epoch of job ", id, " is ", held, ", so epoch ",
                                                      job.epoch, " is another coordinator's or past"));
  }
  PENSTOCK_RETURN_IF_ERROR(UpdateJob(id, job, nullptr));
  SqliteQuery insert =
      writer_->Query("INSERT OR REPLACE INTO epochs (job, epoch, coordinator, begun_us) VALUES (?1, ?2, ?3, ?4)");
  insert.Bind(1, id).Bind(2, job.epoch).Bind(3, coordinator);
  insert.Bind(4, static_cast<uint64_t>(absl::ToUnixMicros(now)));
  PENSTOCK_RETURN_IF_ERROR(insert.Run());
  return transaction.Commit();
}

absl::Status SqliteStore::WriteJob(const std::string& id, const PersistedJob& job, const v1::JobStatus& shown) {
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kPowerLoss));
  SqliteTransaction transaction(writer_.get());
  PENSTOCK_RETURN_IF_ERROR(transaction.status());
  PENSTOCK_RETURN_IF_ERROR(CheckEpoch(id, job.epoch));
  {
    SqliteQuery query = writer_->Query("SELECT 1 FROM jobs WHERE id = ?1 AND epoch = ?2");
    if (!query.Bind(1, id).Bind(2, job.epoch).Next()) {
      PENSTOCK_RETURN_IF_ERROR(query.status());
      return absl::FailedPreconditionError(absl::StrCat("the store doesn't have epoch ", job.epoch, " of job ", id));
    }
  }
  PENSTOCK_RETURN_IF_ERROR(UpdateJob(id, job, &shown));
  return transaction.Commit();
}

absl::Status SqliteStore::WriteShown(const std::string& id, const v1::JobStatus& shown) {
  const std::string bytes = shown.SerializeAsString();
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kProcessDeath));
  PENSTOCK_RETURN_IF_ERROR(
      writer_->Query("UPDATE jobs SET shown = ?2 WHERE id = ?1").Bind(1, id).BindBlob(2, bytes).Run());
  return CheckChanged(id);
}

absl::Status SqliteStore::WriteShards(const std::string& id, std::span<const std::string> shards) {
  const std::string joined = absl::StrJoin(shards, ",");
  std::lock_guard lock(write_mutex_);
  PENSTOCK_RETURN_IF_ERROR(SetDurability(Durability::kPowerLoss));
  PENSTOCK_RETURN_IF_ERROR(
      writer_->Query("UPDATE jobs SET shards = ?2 WHERE id = ?1").Bind(1, id).Bind(2, joined).Run());
  return CheckChanged(id);
}

}  // namespace penstock
