"""Start real daemons, know their pids, and end every one of them, also when the test run itself is killed.

Every process goes into its own session and is announced to a *reaper*: a tiny child that holds a pipe from the test run
and kills what is still registered when that pipe closes. So ``kill -9`` of pytest leaves nothing behind either.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

#: The application's sources.
SOURCE = Path(__file__).resolve().parents[2] / "src"

_REAPER = r"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pids, dirs = {}, set()
def started(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[19]
    except OSError:
        return None
for line in sys.stdin:
    kind, _, value = line.rstrip("\n").partition(" ")
    if kind == "pid":
        pids[int(value)] = started(value)
    elif kind == "gone":
        pids.pop(int(value), None)
    elif kind == "dir":
        dirs.add(value)
    elif kind == "nodir":
        dirs.discard(value)
for pid, since in pids.items():
    if since is None or started(pid) == since:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
import shutil
for path in dirs:
    shutil.rmtree(path, ignore_errors=True)
"""


class DaemonError(AssertionError):
    """A daemon did not start, or left by itself; the text holds the end of its log."""


class Reaper:
    """The one child that outlives a killed test run for as long as it takes to end the daemons."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _REAPER], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def tell(self, kind: str, value: object) -> None:
        """Report ``pid``/``gone``/``dir``/``nodir``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {value}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Let it end what is left, and wait for that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)


class Workshop:
    """A directory other users may enter, the account daemons run under, and the reaper.

    Args:
        prefix: start of the directory's name.
        source: the application's sources to run.
    """

    def __init__(self, prefix: str = "hhc-test-", source: Path = SOURCE) -> None:
        self._source = source
        self.reaper = Reaper()
        self.root = Path(tempfile.mkdtemp(prefix=prefix))
        self.root.chmod(0o755)
        self.reaper.tell("dir", self.root)
        self.account = unprivileged_account()

    @functools.cached_property
    def source(self) -> Path:
        """The application's sources where the account can read them: a copy when we are root, whose clone may lie in a closed
        home. (A capability to read is not enough: access(2), which alembic asks, ignores it.)
        """
        if self.account is None:
            return self._source
        copy = self.root / "src"
        shutil.copytree(self._source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return copy

    @functools.cached_property
    def drop(self) -> list[str]:
        """What stands before a command of the application so that it runs unprivileged; nothing when we are.

        Where the interpreter or the sources lie in a directory closed to others (a root's home), the account may read
        everything, still writes nowhere but its own; where even that is not possible it stays root.
        """
        if self.account is None:
            return []
        uid, gid = self.account
        plain = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        reading = [*plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        for prefix in (plain, reading):
            # the version too: an interpreter that cannot reach its own library may silently take the system's
            probe = [*prefix, sys.executable, "-c", "import sys, gunicorn, hockey_hub_chat; print(sys.version)"]
            environment = {**base_environment(), "PYTHONPATH": str(self.source)}
            done = subprocess.run(probe, env=environment, cwd="/", capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip() == sys.version.strip():
                return prefix
        return []

    def directory(self, name: str, mode: int = 0o700) -> Path:
        """Make ``root/name`` (a free name is chosen), owned by the account daemons run under."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))
        path.chmod(mode)
        if self.account is not None:
            os.chown(path, *self.account)
        return path

    @functools.cached_property
    def python_environment(self) -> dict[str, str]:
        """What a Python process needs; they share one cache of bytecode, so that only the first start compiles."""
        return {
            **base_environment(),
            "PYTHONPATH": str(self.source),
            "PYTHONPYCACHEPREFIX": str(self.directory("pycache")),
            "PYTHONWARNINGS": "default",
        }

    def close(self) -> None:
        """End the daemons that are left and remove the directory."""
        self.reaper.close()
        shutil.rmtree(self.root, ignore_errors=True)


def unprivileged_account() -> tuple[int, int] | None:
    """Return (uid, gid) to drop to when we are root (several daemons refuse root), otherwise None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    return 65534, grp.getgrall()[-1].gr_gid


def free_port() -> int:
    """Return a TCP port nobody listens on at the moment.

    Below those the kernel gives to outgoing connections: while a daemon is down one of them could take its port, and a client
    that keeps trying could even connect to itself.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    low = 10_240 if first_outgoing > 12_000 else 61_000
    high = first_outgoing if first_outgoing > 12_000 else 65_535
    while True:
        port = random.SystemRandom().randrange(low, high)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(check: Callable[[], object], timeout: float, what: str, interval: float = 0.02) -> None:
    """Poll ``check`` until it is true.

    Raises:
        AssertionError: after ``timeout`` seconds, naming ``what``.
    """
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)


def tail(path: Path, lines: int = 40) -> str:
    """Return the last lines of a log, for a failure's text."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


class Daemon:
    """One real process in its own session, with a log file. Subclasses say what to run and when it is ready."""

    name = "daemon"
    start_timeout = 30.0

    def __init__(self, workshop: Workshop, directory: Path) -> None:
        self.workshop = workshop
        self.directory = directory
        self.log_path = directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    # what a subclass gives
    def command(self) -> Sequence[str]:
        """Return argv."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the whole environment of the process: nothing leaks in from the one that runs the tests."""
        return base_environment()

    def is_ready(self) -> bool:
        """Return whether it serves; called every 20 ms after a start."""
        raise NotImplementedError

    account: tuple[int, int] | None = None

    def inherited(self) -> Sequence[int]:
        """Return file descriptors the process gets from us, under the same numbers."""
        return ()

    # what everyone uses
    @property
    def pid(self) -> int:
        """The pid of the process we started."""
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether our process still lives."""
        return self.process is not None and self.process.poll() is None

    def spawn(self) -> None:
        """Start the process without waiting for it to serve."""
        assert not self.running, f"{self.name} runs already"
        uid, gid = self.account or (None, None)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=dict(self.environment()),
                start_new_session=True,
                pass_fds=self.inherited(),
                user=uid,
                group=gid,
                extra_groups=[] if uid is not None else None,
            )
        self.workshop.reaper.tell("pid", self.process.pid)

    def start(self) -> None:
        """Start it and return when it serves.

        Raises:
            DaemonError: when it leaves or does not serve in time.
        """
        self.spawn()
        self.wait_ready()

    def wait_ready(self, timeout: float | None = None) -> None:
        """Return when it serves."""
        limit = timeout or self.start_timeout
        deadline = time.monotonic() + limit
        while not self.is_ready():
            if not self.running:
                raise DaemonError(f"{self.name} left at start ({self._returncode()}):\n{tail(self.log_path)}")
            if time.monotonic() > deadline:
                raise DaemonError(f"{self.name} does not serve after {limit:g} s:\n{tail(self.log_path)}")
            time.sleep(0.02)

    def _returncode(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal to our process alone."""
        os.kill(self.pid, number)

    def kill9(self) -> None:
        """``kill -9`` our process and return when it is gone."""
        self.send_signal(signal.SIGKILL)
        self._reap(10)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        """End it politely; after ``timeout`` seconds the whole session is killed and that is an error.

        Returns:
            the exit status.
        """
        if not self.running:
            self._forget()
            return self._returncode() or 0
        self.send_signal(number)
        try:
            return self._reap(timeout)
        except subprocess.TimeoutExpired:
            self.destroy()
            raise DaemonError(f"{self.name} did not stop within {timeout:g} s:\n{tail(self.log_path)}") from None

    def destroy(self) -> None:
        """Kill whatever is left of its session; never raises for a process that is gone."""
        if self.process is None:
            return
        for pid in (self.process.pid, *self.extra_pids()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self._reap(10)
        self._forget()

    def extra_pids(self) -> Sequence[int]:
        """Return leaders of further sessions that belong to it."""
        return ()

    def logs(self) -> str:
        """Return everything it has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _reap(self, timeout: float) -> int:
        assert self.process is not None
        code = self.process.wait(timeout)
        return code

    def _forget(self) -> None:
        if self.process is not None:
            self.workshop.reaper.tell("gone", self.process.pid)


def base_environment() -> dict[str, str]:
    """Return the few variables every process needs, and none of ours."""
    return {"PYTHONUNBUFFERED": "1", "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "TZ": "UTC"}


def children_of(pid: int) -> list[int]:
    """Return the living child processes of ``pid``, oldest first (Linux ``/proc``)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append((int(fields[19]), int(entry.name)))
    return [child for _, child in sorted(found)]


def alive(pid: int) -> bool:
    """Return whether a process lives; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def rss_bytes(pid: int, field: str = "VmRSS") -> int:
    """Return a memory figure of ``/proc/<pid>/status`` in bytes (``VmRSS`` now, ``VmHWM`` the highest so far)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field} of process {pid}")


def pss_bytes(pid: int) -> int:
    """Return the memory of a process in bytes, of pages it shares only its share (``/proc/<pid>/smaps_rollup``)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no Pss of process {pid}")


def open_files(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def peer_ports(pid: int) -> Counter[int | None]:
    """Return how many open files of a process are TCP sockets to each remote port; under None, how many are anything else."""
    remote = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            remote[f"socket:[{fields[9]}]"] = int(fields[2].rpartition(":")[2], 16)
    found: Counter[int | None] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we looked
            found[remote.get(str(entry.readlink()))] += 1
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def ending(daemon: Daemon) -> Iterator[Daemon]:
    """Destroy the daemon when the block ends, however it ends."""
    try:
        yield daemon
    finally:
        daemon.destroy()
