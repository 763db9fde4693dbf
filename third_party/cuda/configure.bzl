"""Finds nvcc and NCCL on this machine and makes @local_cuda of them; without them everything is built without CUDA.

@local_cuda//:defs.bzl says what was found (HAS_CUDA, HAS_NCCL, NVCC, CUDA_VERSION, GENCODE), @local_cuda//:headers are
the toolkit's headers for host code, @local_cuda//:cudart its static run-time library, @local_cuda//:nccl_headers NCCL's.

Looked for, in this order: $CUDA_HOME, $CUDA_PATH, nvcc in the PATH, /usr/local/cuda; $NCCL_HOME, the toolkit,
/usr, /usr/local. PENSTOCK_CUDA=off leaves it all out.
"""

# What a data centre's cards need, and the newest that the toolkit knows. compute_80's intermediate code lets any other
# card since Ampere run, compiled by its driver at the first start.
_FIRST = ["-gencode=arch=compute_80,code=[sm_80,compute_80]", "-gencode=arch=compute_90a,code=sm_90a"]

_CUDA_MAJOR_MIN = 12

_LIBRARY_FOLDERS = ["lib64", "lib", "lib/x86_64-linux-gnu", "targets/x86_64-linux/lib"]

def _find_nvcc(ctx):
    for variable in ["CUDA_HOME", "CUDA_PATH"]:
        home = ctx.os.environ.get(variable, "")
        if home:
            nvcc = ctx.path(home + "/bin/nvcc")
            return nvcc if nvcc.exists else None
    nvcc = ctx.which("nvcc")
    if nvcc != None:
        return nvcc
    nvcc = ctx.path("/usr/local/cuda/bin/nvcc")
    return nvcc if nvcc.exists else None

def _version(ctx, nvcc):
    """"13.0", or None where nvcc doesn't say."""
    result = ctx.execute([nvcc, "--version"])
    if result.return_code != 0 or "release " not in result.stdout:
        return None
    return result.stdout.split("release ")[1].split(",")[0].strip()

def _newest(ctx, nvcc):
    """The highest architecture of `nvcc --list-gpu-arch`, as a number: 121."""
    result = ctx.execute([nvcc, "--list-gpu-arch"])
    newest = 0
    for line in result.stdout.split("\n"):
        number = line.strip().replace("compute_", "")
        if number.isdigit():
            newest = max(newest, int(number))
    return newest

def _find_in(ctx, homes, folders, name):
    for home in homes:
        for folder in folders:
            found = ctx.path(home + "/" + folder + "/" + name)
            if found.exists:
                return found
    return None

def _look(ctx):
    """What was found, or struct(why=...)."""
    if ctx.os.environ.get("PENSTOCK_CUDA", "") == "off":
        return struct(why = "PENSTOCK_CUDA=off")
    nvcc = _find_nvcc(ctx)
    if nvcc == None:
        return struct(why = "nvcc wasn't found")
    version = _version(ctx, nvcc)
    if version == None:
        return struct(why = "{} --version doesn't answer".format(nvcc))
    if int(version.split(".")[0]) < _CUDA_MAJOR_MIN:
        return struct(why = "{} is of CUDA {}; {} or later is needed".format(nvcc, version, _CUDA_MAJOR_MIN))
    home = str(nvcc.realpath.dirname.dirname)
    homes = [home, "/usr"]
    headers = _find_in(ctx, homes, ["include", "targets/x86_64-linux/include"], "cublasLt.h")
    cudart = _find_in(ctx, homes, _LIBRARY_FOLDERS, "libcudart_static.a")
    if headers == None or cudart == None:
        return struct(why = "the toolkit at {} has no {}".format(home, "cublasLt.h" if headers == None else "libcudart_static.a"))
    nccl_homes = [ctx.os.environ[name] for name in ["NCCL_HOME"] if ctx.os.environ.get(name, "")]
    return struct(
        why = "",
        nvcc = nvcc,
        version = version,
        headers = headers.dirname,
        cudart = cudart,
        nccl = _find_in(ctx, nccl_homes + [home, "/usr", "/usr/local"], ["include"], "nccl.h"),
    )

_ABSENT = """HAS_CUDA = False
HAS_NCCL = False
NVCC = ""
CUDA_VERSION = ""
GENCODE = []
"""

_BUILD = """package(default_visibility = ["//visibility:public"])

cc_library(
    name = "headers",
    hdrs = glob(["include/*.h", "include/*.hpp", "include/crt/*"]),
    includes = ["include"],
)

cc_library(
    name = "cudart",
    srcs = ["libcudart_static.a"],
    linkopts = ["-ldl", "-lpthread", "-lrt"],
    deps = [":headers"],
)

cc_library(
    name = "nccl_headers",
    hdrs = glob(["nccl/nccl.h"]),
    includes = ["nccl"],
    deps = [":headers"],
)
"""

def _cuda_configure(ctx):
    found = _look(ctx)
    if found.why:
        print("building without CUDA: " + found.why)  # buildifier: disable=print
        ctx.file("defs.bzl", _ABSENT)
        ctx.file("BUILD.bazel", "")
        return
    newest = _newest(ctx, found.nvcc)
    gencode = list(_FIRST)
    if newest > 90:
        gencode.append("-gencode=arch=compute_{0},code=sm_{0}".format(newest))
    print("building with CUDA {} ({}){}".format(
        found.version,
        found.nvcc,
        "" if found.nccl != None else ", without NCCL: nccl.h wasn't found",
    ))  # buildifier: disable=print
    ctx.symlink(found.headers, "include")
    ctx.symlink(found.cudart, "libcudart_static.a")
    if found.nccl != None:
        ctx.symlink(found.nccl, "nccl/nccl.h")
    ctx.file("defs.bzl", "HAS_CUDA = True\nHAS_NCCL = {}\nNVCC = {}\nCUDA_VERSION = {}\nGENCODE = {}\n".format(
        found.nccl != None,
        repr(str(found.nvcc)),
        repr(found.version),
        repr(gencode),
    ))
    ctx.file("BUILD.bazel", _BUILD)

cuda_configure = repository_rule(
    implementation = _cuda_configure,
    configure = True,
    environ = ["CUDA_HOME", "CUDA_PATH", "NCCL_HOME", "PENSTOCK_CUDA"],
    local = True,
)
