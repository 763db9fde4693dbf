"""What a machine is, as far as a run on its card depends on it. Nothing here fails: what isn't known is left out."""
import ctypes
import importlib.metadata
import os
import pathlib
import platform
import resource
import shutil
import site
import sys

import processes

NEEDED = [["libcublasLt.so.13", "libcublasLt.so.12"], ["libnccl.so.2"]]
TOOLS = ["compute-sanitizer", "ncu"]


def query(*fields):
    """What nvidia-smi says of the first card; a field that it doesn't know is left out."""
    facts = {}
    for field in fields:
        done = processes.run(["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader", "--id=0"], 30)
        if done.good:
            facts[field] = done.output.strip()
        elif not facts:
            return {"error": (done.errors or done.output).strip()[:300] or str(done.code)}
    return facts


def card():
    return query("name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm", "clocks.max.memory",
                 "power.limit", "mig.mode.current", "compute_mode", "ecc.errors.uncorrected.volatile.total")


def card_now():
    """What changes while it works. One call: it is asked after every part."""
    fields = ["clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "memory.used"]
    done = processes.run(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader", "--id=0"], 30)
    return dict(zip(fields, (value.strip() for value in done.output.split(",")))) if done.good else {}


def memory_used():
    """Bytes that all processes together have of the first card."""
    done = processes.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"], 30)
    try:
        return int(done.output) << 20
    except ValueError:
        return None


def loads(name):
    try:
        ctypes.CDLL(name)
        return True
    except OSError:
        return False


def places():
    """Where this Python has its packages."""
    return list(dict.fromkeys([*site.getsitepackages(), site.getusersitepackages(), *filter(None, sys.path)]))


def library_folders():
    """Folders of CUDA's libraries in pip's packages, for what the loader doesn't find by itself: nvidia/cu13/lib,
    nvidia/cublas/lib, nvidia/nccl/lib."""
    folders = []
    for names in NEEDED:
        if any(loads(name) for name in names):
            continue
        folders += [str(path.parent) for place in places() for name in names
                    for path in sorted(pathlib.Path(place).glob(f"nvidia/*/lib/{name}"))]
    return list(dict.fromkeys(folders))


def tool(name):
    """A tool of the toolkit's; empty where there is none."""
    found = shutil.which(name)
    if found:
        return found
    versions_of_ncu = sorted(map(str, pathlib.Path("/opt/nvidia").glob("nsight-compute/*")), reverse=True)
    for place in ["/usr/local/cuda/bin", *versions_of_ncu]:
        if os.access(f"{place}/{name}", os.X_OK):
            return f"{place}/{name}"
    return ""


def versions():
    """Of packages that matter."""
    found = {}
    for name in ["torch", "triton", "nvidia-cublas", "nvidia-cublas-cu12", "nvidia-nccl-cu13", "nvidia-nccl-cu12"]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def text_of(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def facts():
    memory = {line.split(":")[0]: line.split(":")[1].strip() for line in text_of("/proc/meminfo").splitlines()
              if line.startswith(("MemTotal", "MemAvailable"))}
    return {
        "kernel": text_of("/proc/version").strip()[:200],
        "system": next((line.split("=", 1)[1].strip('"') for line in text_of("/etc/os-release").splitlines()
                        if line.startswith("PRETTY_NAME=")), ""),
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_version()} {sys.executable}",
        "packages": versions(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "memory_limit": text_of("/sys/fs/cgroup/memory.max").strip(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "locked_memory": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        "temporary_bytes": shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free,
        "tools": {name: tool(name) for name in TOOLS},
        "environment": {name: value for name, value in os.environ.items()
                        if name.startswith(("CUDA", "NCCL", "NVIDIA", "LD_", "PENSTOCK", "TORCH", "OMP"))},
    }
