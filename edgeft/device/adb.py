"""An Android phone by the `adb` binary. Jobs lie in /data/local/tmp, where the shell user may run programs.

Tested against a stand-in for adb that runs the same commands on the host: the contract, not a phone.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from edgeft.device.jobs import full_disk
from edgeft.device.link import ASK_SECONDS, SLOWEST_LINK, Answer, Link, write_tar
from edgeft.device.remote import RemoteTransport
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.device.profile import Unit

SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
FOLDER = "/data/local/tmp"
REASONS = (
    ("device unauthorized", "it has not allowed this computer", "unlock it and accept the debugging key it shows"),
    ("device still authorizing", "it has not allowed this computer", "unlock it and accept the debugging key it shows"),
    ("device offline", "it is offline", "unplug it and plug it in again, or: adb reconnect"),
    ("no devices/emulators found", "no device is connected", "plug it in with USB debugging on; see `adb devices`"),
    ("more than one device", "more than one device is connected", "give the unit its serial: see `adb devices`"),
    ("no permissions", "this user may not open the USB device", "see `adb devices`; Linux needs a udev rule"),
    ("' not found", "it is not connected", "plug it in with USB debugging on; see `adb devices`"),
    ("cannot connect to daemon", "adb's server does not start", "adb kill-server, then adb start-server"),
    ("error: closed", "the connection broke", "was it unplugged or restarted?"),
    ("protocol fault", "the connection broke", "was it unplugged or restarted?"),
)
"""What adb says after `error:` or `adb:` -> what it means, what to do."""


class AdbTransport(RemoteTransport):
    """Runs jobs on a phone's shell."""

    def connect(self) -> AdbLink:
        """DeviceError when the unit names no serial."""
        unit = self.device.unit
        if unit is None or not unit.serial:
            raise DeviceError(
                f"{self.device.name} is reached by adb, and edgeft does not know which one",
                hint=f"edgeft devices add NAME --type {self.device.name} --serial SERIAL, as `adb devices` shows it",
            )
        return AdbLink(unit)


class AdbLink(Link):
    """Commands by `adb shell -T`: separate streams and exit codes, from Android 7 on."""

    temporary = FOLDER

    def __init__(self, unit: Unit) -> None:
        serial = str(unit.serial)
        if not SERIAL.fullmatch(serial):
            raise DeviceError(f"{serial[:80]!r} is no serial that adb can be given")
        program = shutil.which("adb")
        if program is None:
            raise DeviceError(
                "adb is not installed on this machine", hint="apt install adb, or Android's platform-tools"
            )
        self.place, self._adb = f"{unit.name} ({serial})", [program, "-s", serial]

    def __enter__(self) -> Self:
        done = self._run_tool(["get-state"], ASK_SECONDS)
        if done.out.strip() != "device":
            raise DeviceError(f"it is not ready: {done.out.strip()[:80] or 'no state'}", where=self.place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def command(self, script: str) -> list[str]:
        """See Link."""
        return [*self._adb, "shell", "-T", f"exec sh -c {shlex.quote(script)}"]

    def failure(self, code: int, said: str) -> DeviceError | None:
        """adb's own errors are lines of a known form; its exit code is 1, as that of many a command there."""
        if code not in (1, 255):
            return None
        for line in said.splitlines():
            if not line.startswith(("error: ", "adb: ", "* ")):
                continue
            for words, what, hint in REASONS:
                if words in line:
                    return DeviceError(what, where=self.place, hint=hint, excerpt=line)
        if code == 255 and not said.strip():
            return DeviceError("the connection broke", where=self.place, hint="was it unplugged or restarted?")
        return None

    def send(self, files: Mapping[str, Path], folder: str) -> None:
        """As one archive by `adb push`, unpacked there: adb's own folders lose links and modes."""
        away = f"{folder}.tar"
        with tempfile.NamedTemporaryFile(prefix="edgeft-adb-", suffix=".tar") as archive:
            write_tar(files, archive)
            archive.flush()
            size = Path(archive.name).stat().st_size
            self.check(self.ask(f"mkdir -p {shlex.quote(folder)}"), "no folder can be made there")
            try:
                done = self._run_tool(["push", archive.name, away], ASK_SECONDS + size / SLOWEST_LINK)
                if done.code == 0:
                    unpack = f"tar -xf {shlex.quote(away)} -C {shlex.quote(folder)}"
                    done = self.ask(unpack, ASK_SECONDS + size / SLOWEST_LINK)
                if done.code != 0 and self.is_full(folder, size):
                    raise full_disk(f"for {size / 1e6:.1f} MB more", done.err.strip()[-200:])
                self.check(done, "files cannot be copied to the device")
            finally:
                self.ask(f"rm -f {shlex.quote(away)}")

    def _run_tool(self, words: list[str], seconds: float) -> Answer:
        return self._start([*self._adb, *words], seconds, None, None)
