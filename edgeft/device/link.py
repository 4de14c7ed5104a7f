"""A shell on another machine: ask, send, fetch. What ssh and adb have in common, each being one command-line tool.

A command there cannot be an argument list, since both tools hand a line to the device's shell: every word of ours is
quoted, and the line is `sh -c '...'`, so that no login shell's own syntax matters.
"""

from __future__ import annotations

import shlex
import subprocess
import tarfile
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeft.device.jobs import full_disk
from edgeft.errors import DeviceError

ASK_SECONDS = 60.0
SLOWEST_LINK = 200_000
"""Bytes a second below which a transfer is given up."""
LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Answer:
    """Exit code and both streams of one command there."""

    code: int
    out: str
    err: str


class Link(ABC):
    """place: for messages. temporary: where folders may be made there when the unit names none."""

    place: str
    temporary: str

    @abstractmethod
    def command(self, script: str) -> list[str]:
        """Argument list here that runs the POSIX shell script there with its streams and exit code."""

    @abstractmethod
    def failure(self, code: int, said: str) -> DeviceError | None:
        """What went wrong with the link itself, from the tool's exit code and words; None when it did not."""

    def ask(self, script: str, seconds: float = ASK_SECONDS) -> Answer:
        """Run a short script. DeviceError when the link fails or nothing comes back in time."""
        return self._run(script, seconds, None, None)

    def send(self, files: Mapping[str, Path], folder: str) -> None:
        """Files by their paths below `folder` there, which is made. DeviceError, also for a full disk there."""
        size = sum(path.stat().st_size for path in files.values())
        script = f"mkdir -p {shlex.quote(folder)} && tar -xf - -C {shlex.quote(folder)}"
        done = self._run(script, ASK_SECONDS + size / SLOWEST_LINK, lambda sink: write_tar(files, sink), None)
        if done.code != 0 and self.is_full(folder, size):
            raise full_disk(f"for {size / 1e6:.1f} MB more", done.err.strip()[-200:])
        self.check(done, "files cannot be copied to the device")

    def is_full(self, folder: str, size: int) -> bool:
        """Whether the disk there has less room than this; tar does not always say why it stopped."""
        rows = self.ask(f"df -Pk {shlex.quote(folder)}").out.splitlines()
        words = rows[-1].split() if rows else []
        return len(words) > 3 and words[3].isdigit() and int(words[3]) * 1024 < size

    def fetch(self, path: str, target: Path, limit: int) -> bool:
        """Copy a file of at most `limit` bytes from there; False when it is not there."""
        script = f"test -f {shlex.quote(path)} || exit 44; cat {shlex.quote(path)}"
        with target.open("wb") as sink:
            done = self._run(script, ASK_SECONDS + limit / SLOWEST_LINK, None, (sink, limit))
        if done.code == 44:
            target.unlink()
            return False
        self.check(done, f"{path} cannot be copied from the device")
        return True

    def check(self, done: Answer, what: str) -> str:
        """Standard output of a script that must succeed; DeviceError otherwise."""
        if done.code == 0:
            return done.out
        last = "\n".join(done.err.strip().splitlines()[-3:])
        if "No space left on device" in done.err or "Disk quota exceeded" in done.err:
            raise full_disk("", last)
        raise DeviceError(what, where=self.place, excerpt=last)

    def _run(
        self,
        script: str,
        seconds: float,
        write: Callable[[IO[bytes]], None] | None,
        into: tuple[IO[bytes], int] | None,
    ) -> Answer:
        """One script there; `write` fills its input, `into` takes its output up to a limit."""
        return self._start(self.command(script), seconds, write, into)

    def _start(
        self,
        command: list[str],
        seconds: float,
        write: Callable[[IO[bytes]], None] | None,
        into: tuple[IO[bytes], int] | None,
    ) -> Answer:
        """One process here that speaks for the device."""
        with tempfile.TemporaryFile() as noise:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE if write else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=noise,
                    start_new_session=True,
                )
            except OSError as error:
                raise DeviceError(f"cannot start {command[0]}: {error.strerror}", where=self.place) from error
            expired = threading.Event()
            timer = threading.Timer(seconds, _expire, (process, expired))
            timer.daemon = True
            timer.start()
            try:
                out = self._exchange(process, write, into)
                code = process.wait()
            finally:
                timer.cancel()
                if process.poll() is None:
                    process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        with suppress(OSError):
                            pipe.close()
            noise.seek(0)
            said = noise.read(1 << 16).decode("utf-8", "replace")
        if expired.is_set():
            raise DeviceError(f"no answer within {seconds:.0f} s", where=self.place, hint="is the device overloaded?")
        if (broken := self.failure(code, said)) is not None:
            raise broken
        return Answer(code, out, said)

    def _exchange(
        self,
        process: subprocess.Popen[bytes],
        write: Callable[[IO[bytes]], None] | None,
        into: tuple[IO[bytes], int] | None,
    ) -> str:
        if write is not None and process.stdin is not None:
            with suppress(BrokenPipeError):  # the other end's exit code and words say why
                write(process.stdin)
                process.stdin.close()
        stream = process.stdout
        if stream is None:
            return ""
        if into is None:
            return stream.read(LONGEST_ANSWER).decode("utf-8", "replace")
        sink, left = into
        while chunk := stream.read(min(1 << 16, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise DeviceError("the device sends more than it may", where=self.place)
            sink.write(chunk)
        return ""


def _expire(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
    process.kill()


def write_tar(files: Mapping[str, Path], sink: IO[bytes]) -> None:
    """A tar stream of files and symbolic links, owners and times left out."""
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        for name, path in files.items():
            info = archive.gettarinfo(path, name)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            if info.isfile():
                with path.open("rb") as stream:
                    archive.addfile(info, stream)
            else:
                archive.addfile(info)
