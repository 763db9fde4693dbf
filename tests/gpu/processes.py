"""Processes that end for certain, with all that they started: for what may hang in a driver.

What a process prints goes to files, so that nobody waits for a pipe that a grandchild holds. Every process that comes
of one of these has a mark in its environment, by which it is found wherever it went: other sessions, other groups.
"""
import dataclasses
import itertools
import os
import pathlib
import signal
import subprocess
import tempfile
import time

MARK = "PENSTOCK_GPU_RUN"
# What processes that were told to end have for it, and what the kernel has once they were killed.
GRACE_SECONDS = 5
# Of what one process printed is kept: its beginning and its end.
KEPT_BYTES = 1 << 20

_numbers = itertools.count()


@dataclasses.dataclass
class Done:
    """`code` is the exit code, minus a signal, "timeout" or "not started"."""
    code: object
    output: str
    errors: str
    seconds: float
    # Processes that had to be killed afterwards.
    left_behind: list

    @property
    def good(self):
        return self.code == 0


def marked(mark):
    """Living processes of a mark and of marks below it: (pid, command)."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if any(variable == wanted or variable.startswith(wanted + b"/") for variable in variables):
            found.append((int(entry.name), command))
    return found


def end(mark, process=None):
    """Ends what has the mark: asked first, killed then. The commands of those that it came to, but for `process`."""
    ended = {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        limit = time.monotonic() + GRACE_SECONDS
        asked = set()
        while time.monotonic() < limit:
            if process is not None:
                process.poll()
            living = marked(mark)
            if not living:
                break
            for pid, command in living:
                if process is None or pid != process.pid:
                    ended[pid] = command[:120]
                if pid in asked:
                    continue
                asked.add(pid)
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
            time.sleep(0.05)
    return list(ended.values())[:8]


def read(path):
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= KEPT_BYTES:
            return file.read().decode(errors="replace")
        begin = file.read(KEPT_BYTES // 4)
        file.seek(size - KEPT_BYTES * 3 // 4)
        return (begin + b"\n[...]\n" + file.read()).decode(errors="replace")


def run(command, limit, env=None):
    """Runs a command for `limit` seconds at most."""
    environment = dict(os.environ if env is None else env)
    mark = f"{os.getpid()}-{next(_numbers)}"
    if MARK in os.environ:
        mark = f"{os.environ[MARK]}/{mark}"
    environment[MARK] = mark
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output, errors = pathlib.Path(folder) / "output", pathlib.Path(folder) / "errors"
        with open(output, "wb") as out, open(errors, "wb") as err:
            try:
                process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out,
                                           stderr=err, env=environment, start_new_session=True)
            except OSError as error:
                return Done("not started", "", str(error), 0.0, [])
            code = "timeout"
            try:
                code = process.wait(timeout=max(limit, 0.001))
            except subprocess.TimeoutExpired:
                pass
            finally:
                # Whatever ended this: nothing that was started goes on.
                left = end(mark, process)
                process.poll()
        return Done(code, read(output), read(errors), round(time.monotonic() - begin, 2), left)
