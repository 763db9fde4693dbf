// The store's schema, and what tells our file from others.
#ifndef PENSTOCK_COORDINATOR_STORE_SQLITE_SCHEMA_H_
#define PENSTOCK_COORDINATOR_STORE_SQLITE_SCHEMA_H_

#include <string>

#include "absl/status/status.h"
#include "coordinator/store/sqlite.h"

namespace penstock {

inline constexpr uint64_t kStoreSchemaVersion = 1;

// Makes the schema in an empty file; in another one checks whose it is, its version and its soundness. Errors as
// SqliteStore::Open.
absl::Status PrepareSchema(SqliteDatabase* database, const std::string& path);

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_STORE_SQLITE_SCHEMA_H_
