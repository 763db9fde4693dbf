// The command line of a server: Abseil's flags (ABSL_FLAG in the file with main), with a help text for people.
//
//   ABSL_FLAG(std::string, listen, "127.0.0.1:0", "where to serve; port 0 takes any free one");
//   int main(int argc, char** argv) {
//     penstock::ParseFlags(argc, argv, "penstock-params: one shard of the parameter service.");
//
// --help prints the usage, every flag of ours with its default and the environment variables that count, and exits with
// 0; --version the version. A flag that doesn't exist, a value of the wrong type or an argument that isn't a flag is
// explained on standard error, and the process exits with 1.
#ifndef PENSTOCK_SERVICES_BASE_FLAGS_H_
#define PENSTOCK_SERVICES_BASE_FLAGS_H_

#include <string>

namespace penstock {

// `usage`: the first line is "binary: what it is"; more lines may follow.
void ParseFlags(int argc, char** argv, const std::string& usage);

// The text of --help.
std::string FlagsHelp(const std::string& usage);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_FLAGS_H_
