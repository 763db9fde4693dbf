"""cuda_library: kernels compiled by nvcc, for every architecture that @local_cuda names, behind plain C++ headers.

Only .cu files go through nvcc; whatever else a library has is the ordinary compiler's. Load HAS_CUDA from
@local_cuda//:defs.bzl to leave targets out where there is no toolkit.
"""

load("@local_cuda//:defs.bzl", "CUDA_VERSION", "GENCODE", "NVCC")

# As the host's compiler has it in .bazelrc: nothing is fused that the source doesn't fuse. Denormals, division and
# square roots stay IEEE's (nvcc's defaults, said here because results depend on them).
_FLAGS = [
    "-std=c++20",
    "-O3",
    "-fmad=false",
    "-ftz=false",
    "-prec-div=true",
    "-prec-sqrt=true",
    "-lineinfo",
    # Code for several architectures with its lines: a quarter of the size.
    "-Xfatbin=-compress-all",
    "-Werror=all-warnings",
    "-Xcompiler=-fPIC,-Wall,-Werror",
    "-ccbin=g++",
]

def _nvcc_objects(ctx):
    headers = depset(ctx.files.hdrs, transitive = [
        dep[CcInfo].compilation_context.headers
        for dep in ctx.attr.deps
    ])
    objects = []
    for source in ctx.files.srcs:
        output = ctx.actions.declare_file(source.basename[:-len(source.extension)] + ctx.label.name + ".o")
        arguments = ctx.actions.args()
        arguments.add_all(_FLAGS)
        arguments.add_all(GENCODE)
        arguments.add_all(ctx.attr.copts)
        arguments.add_all(["-I.", "-x", "cu", "-c", source, "-o", output])
        ctx.actions.run(
            executable = NVCC,
            arguments = [arguments],
            inputs = depset([source], transitive = [headers]),
            outputs = [output],
            mnemonic = "CudaCompile",
            progress_message = "Compiling " + source.short_path + " with nvcc",
            # nvcc looks for the host's compiler. The version is part of what the result depends on.
            env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PENSTOCK_CUDA_VERSION": CUDA_VERSION},
        )
        objects.append(output)
    return [DefaultInfo(files = depset(objects))]

_nvcc_objects_rule = rule(
    implementation = _nvcc_objects,
    attrs = {
        "srcs": attr.label_list(allow_files = [".cu"]),
        "hdrs": attr.label_list(allow_files = [".h", ".cuh"]),
        "deps": attr.label_list(providers = [CcInfo]),
        "copts": attr.string_list(),
    },
)

def cuda_library(name, srcs, hdrs = [], private_hdrs = [], deps = [], copts = [], **kwargs):
    """A cc_library of .cu files. `hdrs` are for its users and mustn't need nvcc; `private_hdrs` may."""
    _nvcc_objects_rule(
        name = name + "_objects",
        srcs = srcs,
        hdrs = hdrs + private_hdrs,
        deps = deps,
        copts = copts,
        visibility = ["//visibility:private"],
    )
    native.cc_library(
        name = name,
        srcs = [":" + name + "_objects"],
        hdrs = hdrs,
        deps = deps + ["@local_cuda//:cudart"],
        **kwargs
    )
