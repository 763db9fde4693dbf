#include "services/client/commands.h"

#include <cstdio>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

using Handler = int (*)(const CommandContext&);

struct Entry {
  CommandSpec spec;
  Handler handler;
};

const std::vector<Entry>& Entries() {
  static const auto& entries = *new std::vector<Entry>{
      {{"job",
        "submit",
        {"FILE"},
        "check a job file, queue the job and follow it",
        "FILE is YAML or JSON; - reads standard input. The effective job, with every default, is printed first.\n"
        "Ctrl-C stops following; the job goes on.",
        {{"detach", "d", "", "return as soon as the job is queued"},
         {"set", "", "KEY=VALUE", "override a field: --set training.steps=10; may be repeated", "", "", true}}},
       JobSubmit},
      {{"job", "list", {}, "all jobs, the newest first", "", {}}, JobList},
      {{"job",
        "show",
        {"JOB"},
        "one job: state, step, loss, digest, what it waits for",
        "JOB is a name (its newest job), an id, or the unique beginning of an id.",
        {{"spec", "", "", "print the effective job file instead"}}},
       JobShow},
      {{"job", "watch", {"JOB"}, "follow a job until it ends", "", {}}, JobWatch},
      {{"job", "history", {"JOB"}, "every step: loss, gradient norm, learning rate, time", "", {}}, JobHistory},
      {{"job",
        "plot",
        {"JOB..."},
        "draw the loss curves of one or several jobs as an SVG picture",
        "Several jobs are drawn over the same axes, a colour for each.",
        {{"file", "f", "FILE", "where to write it (default JOB.svg, or A-B-C.svg); - is standard output"}}},
       JobPlot},
      {{"job", "cancel", {"JOB"}, "end a live job; its last checkpoint stays", "", {}}, JobCancel},
      {{"job", "events", {"[JOB]"}, "what happened, to a job or to the whole cluster", "", {}}, JobEvents},
      {{"plan",
        "",
        {"FILE"},
        "what a job would do on the registered workers: mesh, stages, bytes, time of a step",
        "With `parallel: auto` it shows the mesh that the coordinator would choose, else the one in the file.",
        {{"compare", "", "", "show the best few other meshes too, and what speaks for and against them"},
         {"workers", "", "N", "plan for N workers like the first registered one instead"},
         {"workers-per-host", "", "N", "with --workers: of each machine; as many as now on the first one's by default"},
         {"worker-threads", "", "N", "with --workers: of each worker, whose speed is taken to grow with them"},
         {"host-cores", "", "N", "with --workers: of each machine"},
         {"host-memory-gib", "", "N", "with --workers: of each machine"},
         {"shards", "", "N", "with --workers: parameter shards, spread over the machines"},
         {"set", "", "KEY=VALUE", "override a field: --set parallel=auto; may be repeated", "", "", true}}},
       PlanJob},
      {{"worker", "list", {}, "the registered workers and what they do", "", {}}, WorkerList},
      {{"worker", "show", {"ID"}, "one worker: its device, the libraries' versions, how fast it is", "", {}},
       WorkerShow},
      {{"checkpoint", "list", {"JOB|DIR"}, "the checkpoints of a job, or in a folder", "", {}}, CheckpointList},
      {{"checkpoint",
        "verify",
        {"JOB|PATH"},
        "read every byte of a checkpoint and check it",
        "PATH is one checkpoint's folder, or one with several; these and a JOB stand for their newest.",
        {}},
       CheckpointVerify},
      {{"checkpoint",
        "diff",
        {"JOB|PATH", "JOB|PATH"},
        "compare the weights of two checkpoints, tensor by tensor",
        "Each is a JOB (its newest checkpoint), a checkpoint's folder, one with several (the newest of them), or a\n"
        "Hugging Face model's. Exits with 0 whether or not they differ; `-o json` says which in \"equal\".",
        {{"all", "a", "", "list the equal tensors, too"}}},
       CheckpointDiff},
      {{"checkpoint",
        "export",
        {"JOB|PATH", "DIR"},
        "write a Hugging Face GPT-2 folder",
        "DIR is made. It gets config.json and model.safetensors in fp32; for a model of bytes also a tokenizer. "
        "Another\n"
        "vocabulary's tokenizer files are yours to copy.",
        {}},
       CheckpointExport},
      {{"checkpoint",
        "import",
        {"DIR", "CHECKPOINTS"},
        "make a checkpoint of a Hugging Face GPT-2 folder",
        "Written as CHECKPOINTS/step-00000000. DIR has weights of F32, F16 or BF16 in safetensors; the optimizer's "
        "state is\n"
        "zero. A job can also start from DIR itself, with model: {from: DIR}.",
        {}},
       CheckpointImport},
      {{"generate",
        "",
        {"JOB|PATH"},
        "let a trained model write, on an idle worker",
        "A JOB's newest checkpoint, a checkpoint's folder, the newest in a folder of several, or a Hugging Face "
        "model's,\n"
        "which the workers can read. The text depends on the weights, the prompt and these flags alone. Ctrl-C ends "
        "it.",
        {{"prompt", "p", "TEXT", "the beginning of the text, for a model of bytes"},
         {"tokens", "", "IDS", "the prompt as token ids: 464,3290"},
         {"max-tokens", "n", "N", "how long the continuation is", "", "200"},
         {"temperature", "", "X", "below 1 more likely text, above 1 wilder; 0 takes the likeliest token each time", "",
          "0.8"},
         {"top-k", "", "K", "choose among the K likeliest tokens; 0 among all", "", "0"},
         {"top-p", "", "P", "choose among the likeliest that together have probability P", "", "1"},
         {"seed", "", "N", "another number, another text", "", "1"}}},
       Generate},
      {{"completion",
        "bash",
        {},
        "print the completion script for bash",
        "Add to ~/.bashrc: source <(penstockctl completion bash)",
        {}},
       PrintCompletionScript},
      {{"completion",
        "zsh",
        {},
        "print the completion script for zsh",
        "Add to ~/.zshrc, behind compinit: source <(penstockctl completion zsh)",
        {}},
       PrintCompletionScript},
      {{"completion",
        "fish",
        {},
        "print the completion script for fish",
        "Add to ~/.config/fish/config.fish: penstockctl completion fish | source",
        {}},
       PrintCompletionScript},
  };
  return entries;
}

}  // namespace

const CommandLineParser& Commands() {
  static const auto& parser = *[] {
    std::vector<CommandSpec> commands;
    for (const Entry& entry : Entries()) commands.push_back(entry.spec);
    return new CommandLineParser(
        "penstockctl", "penstockctl: submit training jobs to a Penstock cluster and watch them.",
        {{"coordinator", "", "HOST:PORT", "the coordinator's address", "PENSTOCK_COORDINATOR", "127.0.0.1:7070"},
         {"output", "o", "table|json", "what to print: a table for people, or JSON for programs", "PENSTOCK_OUTPUT",
          "table"},
         {"timeout", "", "DURATION", "how long one call may take: 500ms, 30s, 2m", "PENSTOCK_TIMEOUT", "30s"}},
        std::move(commands),
        "A JOB is a name (its newest job), an id, or the unique beginning of an id. First steps:\n"
        "  penstockctl worker list                       what the cluster has\n"
        "  penstockctl job submit job.yaml               train; - in place of the file reads standard input\n"
        "  penstockctl job plot first second             compare two runs\n"
        "  source <(penstockctl completion bash)         complete commands, flags and names with the tabulator key");
  }();
  return parser;
}

int RunCommand(const CommandContext& context) {
  for (const Entry& entry : Entries()) {
    if (entry.spec.noun == context.line.command->noun && entry.spec.verb == context.line.command->verb) {
      return entry.handler(context);
    }
  }
  return Fail(absl::InternalError("the command has no handler"));
}

int Fail(const absl::Status& status) {
  std::fflush(stdout);
  std::fprintf(stderr, "penstockctl: %s\n", std::string(status.message()).c_str());
  return status.code() == absl::StatusCode::kResourceExhausted ? kExitNotPlaced : kExitFailed;
}

}  // namespace penstock
