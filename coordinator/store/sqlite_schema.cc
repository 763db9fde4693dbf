#include "coordinator/store/sqlite_schema.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

// "Pnst".
constexpr uint64_t kApplicationId = 0x506e7374;

// Messages are stored as protobuf bytes: their schema is the protos', which only grows. What is searched or compared
// has columns of its own.
constexpr char kSchema[] = R"(
CREATE TABLE jobs (
  sequence INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  request_id TEXT NOT NULL UNIQUE,
  spec BLOB NOT NULL,
  submitted_us INTEGER NOT NULL,
  shards TEXT NOT NULL,
  state INTEGER NOT NULL,
  message TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  open_epoch INTEGER NOT NULL,
  base_step INTEGER NOT NULL,
  recoveries INTEGER NOT NULL,
  recoveries_without_progress INTEGER NOT NULL,
  finished INTEGER NOT NULL,
  shards_open INTEGER NOT NULL,
  shown BLOB NOT NULL
);
CREATE TABLE epochs (
  job TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  coordinator TEXT NOT NULL,
  begun_us INTEGER NOT NULL,
  PRIMARY KEY (job, epoch)
) WITHOUT ROWID;
CREATE TABLE steps (
  job TEXT NOT NULL,
  step INTEGER NOT NULL,
  record BLOB NOT NULL,
  PRIMARY KEY (job, step)
) WITHOUT ROWID;
CREATE TABLE validations (
  job TEXT NOT NULL,
  step INTEGER NOT NULL,
  loss REAL NOT NULL,
  PRIMARY KEY (job, step)
) WITHOUT ROWID;
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  time_us INTEGER NOT NULL,
  job TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  message TEXT NOT NULL
);
CREATE INDEX events_by_job ON events (job, sequence);
CREATE TABLE checkpoints (
  job TEXT NOT NULL,
  step INTEGER NOT NULL,
  path TEXT NOT NULL,
  PRIMARY KEY (job, step)
) WITHOUT ROWID;
)";

absl::Status CheckSound(SqliteDatabase* database, const std::string& path) {
  SqliteQuery query = database->Query("PRAGMA quick_check(1)");
  if (query.Next()) {
    const std::string verdict = query.Text(0);
    if (verdict == "ok") return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("the store ", path, " is damaged: ", verdict,
                                            "; put a sound copy in its place, or move it away to begin an empty one"));
  }
  return query.status();
}

}  // namespace

absl::Status PrepareSchema(SqliteDatabase* database, const std::string& path) {
  const absl::StatusOr<uint64_t> tables = database->Number("SELECT count(*) FROM sqlite_master");
  if (absl::IsDataLoss(tables.status())) {
    return absl::DataLossError(absl::StrCat(path, " is no sound store of a coordinator (", tables.status().message(),
                                            "); give --store another path, or put a sound copy in its place"));
  }
  PENSTOCK_RETURN_IF_ERROR(tables.status());
  PENSTOCK_ASSIGN_OR_RETURN(const uint64_t application, database->Number("PRAGMA application_id"));
  if (*tables == 0 && application == 0) {
    PENSTOCK_RETURN_IF_ERROR(database->Execute("PRAGMA journal_mode=WAL"));
    SqliteTransaction transaction(database);
    PENSTOCK_RETURN_IF_ERROR(transaction.status());
    PENSTOCK_RETURN_IF_ERROR(database->Execute(kSchema));
    PENSTOCK_RETURN_IF_ERROR(database->Execute(
        absl::StrCat("PRAGMA application_id=", kApplicationId, "; PRAGMA user_version=", kStoreSchemaVersion)));
    return transaction.Commit();
  }
  if (application != kApplicationId) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is an SQLite file of another program; give --store another path"));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const uint64_t version, database->Number("PRAGMA user_version"));
  if (version != kStoreSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the store ", path, " has schema version ", version,
                                                      "; this coordinator reads version ", kStoreSchemaVersion));
  }
  return CheckSound(database, path);
}

}  // namespace penstock
