// SQLite's C interface as values and statuses: a connection, and statements that are prepared once.
//
//   PENSTOCK_ASSIGN_OR_RETURN(auto database, SqliteDatabase::Open(path));
//   SqliteQuery query = database->Query("SELECT step FROM steps WHERE job = ?1");
//   query.Bind(1, job);
//   while (query.Next()) use(query.Integer(0));
//   PENSTOCK_RETURN_IF_ERROR(query.status());
//
// Not thread-safe: a connection and its queries belong to one thread at a time.
#ifndef PENSTOCK_COORDINATOR_STORE_SQLITE_H_
#define PENSTOCK_COORDINATOR_STORE_SQLITE_H_

#include <sqlite3.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

class SqliteDatabase;

// One run of a prepared statement. Resets it when it goes; one run at a time of the same text.
class SqliteQuery {
 public:
  SqliteQuery(SqliteDatabase* database, sqlite3_stmt* statement, absl::Status status);
  ~SqliteQuery();
  SqliteQuery(const SqliteQuery&) = delete;
  SqliteQuery& operator=(const SqliteQuery&) = delete;

  // Parameters count from 1. A text stays with the caller until the query is gone.
  SqliteQuery& Bind(int parameter, std::string_view text);
  SqliteQuery& BindBlob(int parameter, std::string_view bytes);
  SqliteQuery& Bind(int parameter, uint64_t value);
  SqliteQuery& Bind(int parameter, double value);

  // True when there is a row to read; false at the end and on errors.
  bool Next();
  // Runs it for its effect.
  absl::Status Run();
  const absl::Status& status() const { return status_; }

  // Columns count from 0.
  uint64_t Integer(int column) const;
  double Real(int column) const;
  std::string Text(int column) const;
  bool IsNull(int column) const;

 private:
  void Check(int code);

  SqliteDatabase* const database_;
  sqlite3_stmt* const statement_;
  absl::Status status_;
};

class SqliteDatabase {
 public:
  // Makes the file when there is none.
  static absl::StatusOr<std::unique_ptr<SqliteDatabase>> Open(const std::string& path);
  ~SqliteDatabase();
  SqliteDatabase(const SqliteDatabase&) = delete;
  SqliteDatabase& operator=(const SqliteDatabase&) = delete;

  // Statements without parameters or results; several with ';' between.
  absl::Status Execute(const std::string& sql);
  SqliteQuery Query(const std::string& sql);
  // A query with one number for an answer.
  absl::StatusOr<uint64_t> Number(const std::string& sql);
  // Rows that the last statement changed.
  int changes() const { return sqlite3_changes(database_); }

  absl::Status Error(int code, std::string_view doing) const;

 private:
  SqliteDatabase(std::string path, sqlite3* database) : path_(std::move(path)), database_(database) {}

  const std::string path_;
  sqlite3* const database_;
  // By text.
  std::map<std::string, sqlite3_stmt*> statements_;
};

// BEGIN IMMEDIATE … COMMIT; rolls back when it goes without Commit().
class SqliteTransaction {
 public:
  explicit SqliteTransaction(SqliteDatabase* database)
      : database_(database), status_(database->Execute("BEGIN IMMEDIATE")) {}
  ~SqliteTransaction() {
    if (status_.ok() && !ended_) database_->Execute("ROLLBACK").IgnoreError();
  }
  SqliteTransaction(const SqliteTransaction&) = delete;
  SqliteTransaction& operator=(const SqliteTransaction&) = delete;

  const absl::Status& status() const { return status_; }
  absl::Status Commit() {
    absl::Status status = database_->Execute("COMMIT");
    ended_ = status.ok();
    return status;
  }

 private:
  SqliteDatabase* const database_;
  const absl::Status status_;
  bool ended_ = false;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_STORE_SQLITE_H_
