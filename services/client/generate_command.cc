#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "services/client/commands.h"
#include "services/client/output.h"
#include "services/client/printable_text.h"

namespace penstock {
namespace {

template <typename T>
absl::StatusOr<T> WholeNumber(const CommandLine& line, const std::string& flag) {
  T value = 0;
  if (!absl::SimpleAtoi(line.Flag(flag), &value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " '", line.Flag(flag), "' isn't a whole number"));
  }
  return value;
}

absl::StatusOr<double> Number(const CommandLine& line, const std::string& flag) {
  double value = 0;
  if (!absl::SimpleAtod(line.Flag(flag), &value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " '", line.Flag(flag), "' isn't a number"));
  }
  return value;
}

// A folder that is there is meant before a job of the same name; the worker reads it, so it needs the whole path.
absl::Status SetSource(const std::string& name, v1::GenerateRequest& request) {
  std::error_code error;
  if (std::filesystem::is_directory(name, error)) {
    PENSTOCK_ASSIGN_OR_RETURN(const std::string path, CheckpointIn(name));
    request.set_checkpoint(std::filesystem::absolute(path, error).lexically_normal().string());
  } else if (name.find('/') != std::string::npos) {
    // On a cluster whose folders this machine doesn't see.
    request.set_checkpoint(name);
  } else {
    request.set_job(name);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::GenerateRequest> RequestOf(const CommandLine& line) {
  v1::GenerateRequest request;
  PENSTOCK_RETURN_IF_ERROR(SetSource(line.arguments[0], request));
  request.set_prompt(line.Flag("prompt"));
  if (line.Has("tokens")) {
    if (line.Has("prompt")) return absl::InvalidArgumentError("--prompt and --tokens are two prompts; give one");
    for (const auto id : absl::StrSplit(line.Flag("tokens"), absl::ByAnyChar(", "), absl::SkipEmpty())) {
      uint32_t token = 0;
      if (!absl::SimpleAtoi(id, &token)) {
        return absl::InvalidArgumentError(absl::StrCat("--tokens: '", id, "' isn't the id of a token"));
      }
      request.add_prompt_tokens(token);
    }
  }
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t max_tokens, WholeNumber<uint32_t>(line, "max-tokens"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t top_k, WholeNumber<uint32_t>(line, "top-k"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint64_t seed, WholeNumber<uint64_t>(line, "seed"));
  PENSTOCK_ASSIGN_OR_RETURN(const double temperature, Number(line, "temperature"));
  PENSTOCK_ASSIGN_OR_RETURN(const double top_p, Number(line, "top-p"));
  request.set_max_tokens(max_tokens);
  request.set_top_k(top_k);
  request.set_seed(seed);
  request.set_temperature(temperature);
  request.set_top_p(top_p);
  return request;
}

// What comes, as it comes, or at the end as JSON.
class TextOutput {
 public:
  TextOutput(const v1::GenerateRequest& request, bool json) : request_(request), json_(json) {}

  void Add(const v1::GenerateResponse& response) {
    if (response.has_begin()) {
      begin_ = response.begin();
      if (!json_) Begin();
      return;
    }
    const uint32_t token = response.token();
    tokens_.push_back(token);
    if (begin_.bytes() && token < 256) bytes_.push_back(static_cast<char>(token));
    if (!json_) Print(Shown(token));
  }

  void Finish() {
    if (json_) {
      Json json = {{"text", begin_.bytes() ? Json(ToPrintable(bytes_)) : Json()},
                   {"tokens", tokens_},
                   {"checkpoint", begin_.checkpoint()},
                   {"step", begin_.step()},
                   {"worker", begin_.worker_id()}};
      std::printf("%s\n", json.dump(2).c_str());
    } else if (begun_) {
      Print(text_.Finish() + "\n");
    }
  }

 private:
  void Begin() {
    begun_ = true;
    if (isatty(STDERR_FILENO) == 1) {
      std::fprintf(stderr, "%s, step %llu, on %s\n", begin_.checkpoint().c_str(),
                   static_cast<unsigned long long>(begin_.step()), begin_.worker_id().c_str());
    }
    // The prompt is the text's beginning.
    if (begin_.bytes()) {
      Print(text_.Add(request_.prompt()));
      for (const uint32_t token : request_.prompt_tokens()) Print(Shown(token));
    } else {
      Print(absl::StrJoin(request_.prompt_tokens(), " "));
    }
  }

  std::string Shown(uint32_t token) {
    if (!begin_.bytes()) return absl::StrCat(" ", token);
    // A model may have more tokens than there are bytes.
    if (token >= 256) return absl::StrCat(text_.Finish(), "<", token, ">");
    const char byte = static_cast<char>(token);
    return text_.Add(std::string_view(&byte, 1));
  }

  static void Print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

  const v1::GenerateRequest& request_;
  const bool json_;
  bool begun_ = false;
  v1::GenerateResponse::Begin begin_;
  std::vector<uint32_t> tokens_;
  std::string bytes_;
  PrintableText text_;
};

}  // namespace

int Generate(const CommandContext& context) {
  const auto request = RequestOf(context.line);
  if (!request.ok()) return Fail(request.status());
  TextOutput output(*request, context.json);
  const absl::Status status = context.client.Generate(*request, [&output](const v1::GenerateResponse& response) {
    output.Add(response);
    // A reader of the text that has gone: nobody wants the rest.
    return std::ferror(stdout) == 0;
  });
  if (status.ok() || !context.json) output.Finish();
  return status.ok() ? kExitDone : Fail(status);
}

}  // namespace penstock
