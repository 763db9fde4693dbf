#include "coordinator/store/sqlite.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

// Another process may hold the file's write lock for a moment (a backup).
constexpr int kBusyTimeoutMs = 5000;

absl::StatusCode CodeOf(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return absl::StatusCode::kPermissionDenied;
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kNotFound;
    case SQLITE_CONSTRAINT:
      return absl::StatusCode::kAlreadyExists;
    case SQLITE_IOERR:
      return absl::StatusCode::kDataLoss;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

// --- A query. ---

SqliteQuery::SqliteQuery(SqliteDatabase* database, sqlite3_stmt* statement, absl::Status status)
    : database_(database), statement_(statement), status_(std::move(status)) {}

SqliteQuery::~SqliteQuery() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void SqliteQuery::Check(int code) {
  if (code != SQLITE_OK && status_.ok()) status_ = database_->Error(code, "a statement");
}

SqliteQuery& SqliteQuery::Bind(int parameter, std::string_view text) {
  if (status_.ok()) {
    Check(sqlite3_bind_text(statement_, parameter, text.data(), static_cast<int>(text.size()), SQLITE_STATIC));
  }
  return *this;
}

SqliteQuery& SqliteQuery::BindBlob(int parameter, std::string_view bytes) {
  if (status_.ok()) Check(sqlite3_bind_blob64(statement_, parameter, bytes.data(), bytes.size(), SQLITE_STATIC));
  return *this;
}

SqliteQuery& SqliteQuery::Bind(int parameter, uint64_t value) {
  if (status_.ok()) Check(sqlite3_bind_int64(statement_, parameter, static_cast<int64_t>(value)));
  return *this;
}

SqliteQuery& SqliteQuery::Bind(int parameter, double value) {
  if (status_.ok()) Check(sqlite3_bind_double(statement_, parameter, value));
  return *this;
}

bool SqliteQuery::Next() {
  if (!status_.ok()) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) Check(code);
  return false;
}

absl::Status SqliteQuery::Run() {
  while (Next()) {
  }
  return status_;
}

uint64_t SqliteQuery::Integer(int column) const {
  return static_cast<uint64_t>(sqlite3_column_int64(statement_, column));
}

double SqliteQuery::Real(int column) const { return sqlite3_column_double(statement_, column); }

std::string SqliteQuery::Text(int column) const {
  const void* const data = sqlite3_column_blob(statement_, column);
  const int bytes = sqlite3_column_bytes(statement_, column);
  return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), bytes);
}

bool SqliteQuery::IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

// --- A connection. ---

absl::StatusOr<std::unique_ptr<SqliteDatabase>> SqliteDatabase::Open(const std::string& path) {
  sqlite3* handle = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  // SQLite gives a handle, which carries the error, even when it fails.
  std::unique_ptr<SqliteDatabase> database(new SqliteDatabase(path, handle));
  if (code != SQLITE_OK) return database->Error(code, "opening it");
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, kBusyTimeoutMs);
  return database;
}

SqliteDatabase::~SqliteDatabase() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(database_);
}

absl::Status SqliteDatabase::Error(int code, std::string_view doing) const {
  const char* const text = database_ != nullptr ? sqlite3_errmsg(database_) : sqlite3_errstr(code);
  return absl::Status(CodeOf(code),
                      absl::StrCat("the store ", path_, ": ", absl::string_view(doing.data(), doing.size()),
                                   " failed: ", text, " (SQLite ", code, ")"));
}

absl::Status SqliteDatabase::Execute(const std::string& sql) {
  const int code = sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql.substr(0, sql.find('\n')));
}

SqliteQuery SqliteDatabase::Query(const std::string& sql) {
  const auto found = statements_.find(sql);
  if (found != statements_.end()) return SqliteQuery(this, found->second, absl::OkStatus());
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_, sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return SqliteQuery(this, nullptr, Error(code, sql));
  statements_[sql] = statement;
  return SqliteQuery(this, statement, absl::OkStatus());
}

absl::StatusOr<uint64_t> SqliteDatabase::Number(const std::string& sql) {
  SqliteQuery query = Query(sql);
  if (query.Next()) return query.Integer(0);
  PENSTOCK_RETURN_IF_ERROR(query.status());
  return absl::NotFoundError(absl::StrCat("no answer to: ", sql));
}

}  // namespace penstock
