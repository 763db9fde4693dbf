// Default options of the sanitizers' run-time libraries, linked into every binary by --config=asan and --config=tsan.
// The environment (ASAN_OPTIONS and so on) still overrides them.

extern "C" {

const char* __asan_default_options() { return "detect_stack_use_after_return=1:strict_string_checks=1"; }

const char* __ubsan_default_options() { return "print_stacktrace=1"; }

// c-ares, which gRPC resolves names with, keeps a few blocks for the life of the process.
const char* __lsan_default_suppressions() { return "leak:libcares.so\n"; }

const char* __lsan_default_options() { return "print_suppressions=0"; }

// oneDNN isn't instrumented: what it makes once for all threads looks like a race between the first two.
const char* __tsan_default_suppressions() { return "race:libdnnl.so\n"; }

const char* __tsan_default_options() { return "halt_on_error=1:second_deadlock_stack=1"; }

}  // extern "C"
