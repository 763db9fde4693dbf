#include "worker/generate/service.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/sampling/generate_rules.h"
#include "services/base/log.h"
#include "services/checkpoint/pretrained.h"
#include "services/rpc/status.h"
#include "worker/generate/generation.h"

namespace penstock {
namespace {

using Writer = grpc::ServerWriter<v1::GenerateResponse>;

// The tokens to begin with.
absl::StatusOr<std::vector<int32_t>> PromptOf(const v1::GenerateRequest& request, bool bytes, uint32_t vocab_size) {
  std::vector<int32_t> tokens;
  if (request.prompt_tokens_size() > 0) {
    for (const uint32_t token : request.prompt_tokens()) {
      if (token >= vocab_size) {
        return absl::InvalidArgumentError(
            absl::StrCat("the prompt's token ", token, " isn't one of the model's ", vocab_size));
      }
      tokens.push_back(static_cast<int32_t>(token));
    }
    return tokens;
  }
  if (!bytes) {
    return absl::InvalidArgumentError(
        "this model's tokens aren't bytes of text, and its tokenizer isn't known here; give the prompt as --tokens");
  }
  // What comes after a line's end can be the beginning of anything.
  const std::string prompt = request.prompt().empty() ? "\n" : request.prompt();
  for (const char c : prompt) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("the prompt holds a byte ", static_cast<int>(byte),
                                                     "; the model knows those below ", vocab_size));
    }
    tokens.push_back(byte);
  }
  return tokens;
}

// All weights, parameter by parameter.
absl::Status ReadWeights(const PretrainedWeights& from, Gpt2Decoder& decoder,
                         const std::function<absl::Status()>& check) {
  for (const Parameter& parameter : from.table().parameters()) {
    PENSTOCK_RETURN_IF_ERROR(check());
    PENSTOCK_RETURN_IF_ERROR(from.ReadRange(
        parameter.range(),
        decoder.weights().subspan(static_cast<size_t>(parameter.begin), static_cast<size_t>(parameter.size()))));
  }
  return absl::OkStatus();
}

absl::Status Write(Writer& writer, const v1::GenerateResponse& response) {
  return writer.Write(response) ? absl::OkStatus() : absl::CancelledError("the caller has gone away");
}

}  // namespace

grpc::Status GeneratorService::Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                                        Writer* writer) {
  if (generating_.exchange(true)) {
    return ToGrpcStatus(absl::ResourceExhaustedError(absl::StrCat(options_.worker_id, " is generating already")));
  }
  const absl::Cleanup done = [this] { generating_ = false; };
  const absl::Status status = Run(*context, *request, *writer);
  if (!status.ok()) LogInfo("a generation from {} ended: {}", request->checkpoint(), status);
  return ToGrpcStatus(status);
}

absl::Status GeneratorService::Run(const grpc::ServerContext& context, const v1::GenerateRequest& request,
                                   Writer& writer) {
  if (options_.busy()) {
    return absl::ResourceExhaustedError(absl::StrCat(options_.worker_id, " has been given a job"));
  }
  const auto check = [&]() -> absl::Status {
    if (context.IsCancelled()) return absl::CancelledError("the caller has gone away");
    if (options_.busy()) {
      return absl::AbortedError(absl::StrCat(options_.worker_id, " was needed for a job; generate again later"));
    }
    return absl::OkStatus();
  };
  PENSTOCK_RETURN_IF_ERROR(CheckGenerate(request));
  if (request.checkpoint().empty()) return absl::InvalidArgumentError("a worker generates from a checkpoint's folder");
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<PretrainedWeights> from,
                            PretrainedWeights::Open(*options_.blobs, request.checkpoint()));
  const v1::ModelSpec& model = from->spec().model();
  const bool bytes = SpeaksBytes(from->spec());
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, PromptOf(request, bytes, model.vocab_size()));
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<Gpt2Decoder> decoder,
                            Gpt2Decoder::Create(model, from->table(), options_.threads));
  PENSTOCK_RETURN_IF_ERROR(ReadWeights(*from, *decoder, check));

  v1::GenerateResponse begin;
  begin.mutable_begin()->set_worker_id(options_.worker_id);
  begin.mutable_begin()->set_checkpoint(from->folder());
  begin.mutable_begin()->set_step(from->step());
  begin.mutable_begin()->set_bytes(bytes);
  PENSTOCK_RETURN_IF_ERROR(Write(writer, begin));
  GenerationOptions options;
  options.sampling = SamplingOf(request);
  options.max_tokens = request.max_tokens();
  options.check = check;
  options.on_token = [&writer](uint32_t token) {
    v1::GenerateResponse response;
    response.set_token(token);
    return Write(writer, response);
  };
  return RunGeneration(*decoder, prompt, options);
}

}  // namespace penstock
