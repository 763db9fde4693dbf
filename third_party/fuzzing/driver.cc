// Runs a fuzz target (LLVMFuzzerTestOneInput) without libFuzzer, which g++ doesn't have: every input of the corpus as
// it is, then mutations of them from a fixed seed. So a short run is an ordinary test, the same on every machine, and
// under
// --config=asan a thorough one. With clang the same targets link libFuzzer instead (docs/FUZZING.md).
//
//   foo_fuzz_test [--runs=N] [--seconds=S] [--seed=X] FILE_OR_FOLDER...
//
// An input that ends the process, or takes longer than kInputSeconds, is written to $TEST_UNDECLARED_OUTPUTS_DIR (else
// to the working folder) as `crash-input`, and named on standard error.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Of the sanitizers; absent without them.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace {

using Input = std::vector<uint8_t>;

constexpr unsigned kInputSeconds = 20;
constexpr size_t kInputBytesMax = 64 << 10;
constexpr int kMutationsMax = 6;

// For the signal handler.
Input* current = nullptr;
char crash_path[4096];

void Report() {
  if (current == nullptr) return;
  const int file = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool written = file >= 0;
  for (size_t done = 0; written && done < current->size();) {
    const ssize_t count = write(file, current->data() + done, current->size() - done);
    written = count > 0;
    done += count > 0 ? static_cast<size_t>(count) : 0;
  }
  dprintf(STDERR_FILENO, "\nfuzzing: an input of %zu bytes ended the run; %s %s\n", current->size(),
          written ? "it is in" : "it can't be written to", crash_path);
  current = nullptr;
}

void OnSignal(int number) {
  Report();
  signal(number, SIG_DFL);
  raise(number);
}

class Mutator {
 public:
  Mutator(const std::vector<Input>& corpus, uint64_t seed) : corpus_(corpus), random_(seed) {}

  Input Next() {
    Input input = Pick();
    for (size_t i = 1 + Below(kMutationsMax); i > 0; --i) Mutate(input);
    if (input.size() > kInputBytesMax) input.resize(kInputBytesMax);
    return input;
  }

 private:
  // Not std::uniform_int_distribution, whose numbers differ from library to library.
  size_t Below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  const Input& Pick() { return corpus_[Below(corpus_.size())]; }

  void Insert(Input& input, size_t at, const void* bytes, size_t size) {
    const auto* from = static_cast<const uint8_t*>(bytes);
    input.insert(input.begin() + at, from, from + size);
  }

  // Lengths, counts and offsets are what readers trust: numbers in text and in binary become others.
  void MutateNumber(Input& input) {
    static constexpr uint64_t kNumbers[] = {
        0,     1,         2,          127,       128,        255,        256,        65535,
        65536, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, 1ULL << 40, 1ULL << 62, 0xFFFFFFFFFFFFFFF8ULL};
    const uint64_t number = kNumbers[Below(std::size(kNumbers))] + Below(3) - 1;
    const auto digit = [](uint8_t c) { return c >= '0' && c <= '9'; };
    const size_t start = Below(input.size());
    const auto found = std::find_if(input.begin() + start, input.end(), digit);
    if (found != input.end() && Below(4) != 0) {
      const size_t at = found - input.begin();
      const auto end = std::find_if_not(found, input.end(), digit);
      input.erase(found, end);
      const std::string text = (Below(8) == 0 ? "-" : "") + std::to_string(number);
      Insert(input, at, text.data(), text.size());
      return;
    }
    const size_t width = size_t{1} << Below(4);
    if (input.size() < width) return;
    std::memcpy(input.data() + Below(input.size() - width + 1), &number, width);
  }

  void Mutate(Input& input) {
    if (input.empty()) input.push_back(static_cast<uint8_t>(random_()));
    const size_t at = Below(input.size());
    const size_t run = 1 + Below(std::min<size_t>(input.size() - at, 32));
    switch (Below(9)) {
      case 0:
        input[at] ^= static_cast<uint8_t>(1 << Below(8));
        break;
      case 1:
        input[at] = static_cast<uint8_t>(random_());
        break;
      case 2:
        input.erase(input.begin() + at, input.begin() + at + run);
        break;
      case 3: {
        const Input copy(input.begin() + at, input.begin() + at + run);
        Insert(input, Below(input.size() + 1), copy.data(), copy.size());
        break;
      }
      case 4: {
        const Input& other = Pick();
        if (other.empty()) break;
        const size_t from = Below(other.size());
        Insert(input, at, other.data() + from, 1 + Below(std::min<size_t>(other.size() - from, 64)));
        break;
      }
      case 5:
        input.resize(at);
        break;
      case 6: {
        static constexpr char kMarks[] = "{}[]\":,=-&*!|>#\n\t \\\0.eE";
        Insert(input, at, &kMarks[Below(sizeof(kMarks))], 1);
        break;
      }
      default:
        MutateNumber(input);
    }
  }

  const std::vector<Input>& corpus_;
  std::mt19937_64 random_;
};

void Load(const std::string& path, std::vector<Input>& corpus) {
  std::vector<std::string> paths = {path};
  if (std::filesystem::is_directory(path)) {
    paths.clear();
    for (const auto& entry : std::filesystem::directory_iterator(path)) paths.push_back(entry.path().string());
    std::sort(paths.begin(), paths.end());
  }
  for (const std::string& each : paths) {
    std::ifstream file(each, std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "fuzzing: can't read %s\n", each.c_str());
      std::exit(1);
    }
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
}

void Run(const Input& input) {
  // A copy of its own, exactly as long, so that a sanitizer sees a read behind its end.
  Input copy(input);
  copy.shrink_to_fit();
  current = &copy;
  alarm(kInputSeconds);
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
  alarm(0);
  current = nullptr;
}

// "--runs=5" for "--runs="; false when it isn't that flag.
bool ReadNumber(const char* argument, const char* flag, uint64_t* number) {
  const size_t length = std::strlen(flag);
  if (std::strncmp(argument, flag, length) != 0) return false;
  *number = std::strtoull(argument + length, nullptr, 10);
  return true;
}

// What tests/count_results.py counts; GoogleTest's format. Written at the end only: a run that died has none.
void WriteResults() {
  const char* path = std::getenv("XML_OUTPUT_FILE");
  if (path == nullptr) return;
  std::ofstream file(path);
  file << "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"AllTests\" tests=\"2\" failures=\"0\">\n"
          "<testsuite name=\"Fuzz\" tests=\"2\" failures=\"0\">\n"
          "<testcase name=\"Corpus\" status=\"run\"/>\n<testcase name=\"Mutations\" status=\"run\"/>\n"
          "</testsuite>\n</testsuites>\n";
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t runs = 20'000;
  uint64_t seconds = 5;
  uint64_t seed = 1;
  std::vector<Input> corpus;
  for (int i = 1; i < argc; ++i) {
    if (ReadNumber(argv[i], "--runs=", &runs) || ReadNumber(argv[i], "--seconds=", &seconds) ||
        ReadNumber(argv[i], "--seed=", &seed)) {
      continue;
    }
    Load(argv[i], corpus);
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "fuzzing: there is no corpus; name its files or folders\n");
    return 1;
  }
  const char* outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  std::snprintf(crash_path, sizeof(crash_path), "%s/crash-input", outputs != nullptr ? outputs : ".");
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM}) signal(number, OnSignal);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(Report);

  for (const Input& input : corpus) Run(input);
  Mutator mutator(corpus, seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  uint64_t done = 0;
  for (; done < runs && std::chrono::steady_clock::now() < end; ++done) Run(mutator.Next());
  std::printf("%zu inputs of the corpus and %llu mutations (seed %llu): no trouble\n", corpus.size(),
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(seed));
  WriteResults();
  return 0;
}
