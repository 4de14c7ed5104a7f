"""A device by ssh: the system's own `ssh`, so that the user's configuration, agent, keys and jump hosts work.

Files travel as a tar stream through ssh itself: boards without sftp or scp need nothing more than `sh` and `tar`.
Another configuration file than ~/.ssh/config: EDGEFT_SSH_CONFIG. Nothing is asked on the terminal (BatchMode).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from edgeft.device.link import Link
from edgeft.device.remote import RemoteTransport
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.device.profile import Device, Unit

HOST = re.compile(r"[A-Za-z0-9_\[:][A-Za-z0-9_.:@%+\[\]-]*")
"""As units check it too: the host reaches ProxyCommand lines of the user's configuration."""
OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3", "LogLevel=ERROR",
    "ClearAllForwardings=yes", "ForwardAgent=no", "RequestTTY=no", "RemoteCommand=none", "EscapeChar=none",
    "ControlPersist=no", "PermitLocalCommand=no",
)  # fmt: skip
CONNECT_SECONDS = 45.0
LONGEST_SOCKET = 80
"""Characters; Unix sockets end at 104 or 108, and ssh appends 17."""
LINK_FAILED = 255
REASONS = (
    ("Could not resolve hostname", "its name is unknown", "check the host: edgeft devices show, or ~/.ssh/config"),
    ("Connection refused", "it refuses connections", "is sshd running there, and is the port right?"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key is not the one known", "set up anew? ssh-keygen -R HOST"),
    ("Host key verification failed", "its host key is not known", "connect once by hand and compare the key: ssh HOST"),
    ("Permission denied", "it refused the login", "is the key in its authorized_keys? ssh-copy-id HOST"),
    ("Too many authentication failures", "it refused the login", "name one key: IdentityFile in ~/.ssh/config"),
    ("timed out", "it does not answer", "is it switched on and on this network?"),
    ("No route to host", "it cannot be reached", "is it switched on and on this network?"),
    ("Network is unreachable", "it cannot be reached", "is this machine on the network?"),
    ("no matching", "it and this ssh have no algorithm in common", "see `ssh -v HOST`"),
    ("Bad owner or permissions", "ssh refuses its own configuration", "see `ssh -v HOST`"),
)  # fmt: skip
"""What ssh says -> what it means, what to do."""


class SshTransport(RemoteTransport):
    """Runs jobs over ssh; one connection a job."""

    def connect(self) -> SshLink:
        """DeviceError when the unit names no host."""
        unit = self.device.unit
        if unit is None or not unit.host:
            raise DeviceError(
                f"{self.device.name} is reached by ssh, and edgeft does not know where",
                hint=f"edgeft devices add NAME --type {self.device.name} --host HOST",
            )
        return SshLink(self.device, unit)


class SshLink(Link):
    """One master connection; every command is a session on it, so that only the first one waits for a login."""

    temporary = "/tmp"  # noqa: S108  on the device, where mktemp makes a folder of its own

    def __init__(self, device: Device, unit: Unit) -> None:
        host = str(unit.host)
        if not HOST.fullmatch(host):
            raise DeviceError(f"{host[:80]!r} is no host that ssh can be given")
        self.place, self._host = f"{unit.name} ({host})", host
        program = shutil.which("ssh")
        if program is None:
            raise DeviceError("ssh is not installed on this machine", hint="apt install openssh-client")
        config = os.environ.get("EDGEFT_SSH_CONFIG")
        self._ssh = [program, *(("-F", config) if config else ())]
        self._ssh += [word for option in OPTIONS for word in ("-o", option)]
        self._ssh += ["-p", str(unit.port)] if unit.port else []
        self._master: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        if sys.platform != "win32":  # Windows' ssh has no master connections: each command logs in
            try:
                self._open()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._master is not None:
            self._master.terminate()
            try:
                self._master.wait(5)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, script: str) -> list[str]:
        """See Link."""
        through = ["-S", str(self._folder / "s"), "-o", "ControlMaster=no"] if self._folder else ["-S", "none"]
        return [*self._ssh, *through, "--", self._host, f"exec sh -c {shlex.quote(script)}"]

    def failure(self, code: int, said: str) -> DeviceError | None:
        """ssh's own exit code is 255; a command there that ends so is taken for it too."""
        if code != LINK_FAILED:
            return None
        told = f"{said}\n{self._noise()}"
        for words, what, hint in REASONS:
            if words in told:
                return DeviceError(what, where=self.place, hint=hint.replace("HOST", self._host), excerpt=_last(told))
        return DeviceError(
            "the connection broke; the device ends the job by itself",
            where=self.place,
            hint="was it switched off, restarted or taken off the network?",
            excerpt=_last(told),
        )

    def _open(self) -> None:
        """Start the master and wait until it takes sessions."""
        parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < LONGEST_SOCKET - 24 else "/tmp"  # noqa: S108
        self._folder = Path(tempfile.mkdtemp(prefix="edgeft-ssh-", dir=parent))
        socket = self._folder / "s"
        command = [*self._ssh, "-M", "-S", str(socket), "-N", "--", self._host]
        with (self._folder / "noise").open("wb") as noise:
            self._master = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=noise, start_new_session=True
            )
        until = time.monotonic() + CONNECT_SECONDS
        while not socket.exists():
            if self._master.poll() is not None:
                raise self.failure(LINK_FAILED, "") or DeviceError("ssh ended", where=self.place)
            if time.monotonic() > until:
                raise DeviceError(f"no login within {CONNECT_SECONDS:.0f} s", where=self.place, hint="try `ssh -v`")
            time.sleep(0.01)

    def _noise(self) -> str:
        path = self._folder / "noise" if self._folder else None
        return path.read_bytes()[-4096:].decode("utf-8", "replace") if path and path.is_file() else ""


def _last(said: str) -> str:
    return "\n".join(said.strip().splitlines()[-2:])
