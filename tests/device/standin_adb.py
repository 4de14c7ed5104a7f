"""A stand-in for Android's `adb`: the same words, exit codes and streams, but the "phone" is this machine's shell.

STATE beside it says what the phone is like: device, unauthorized, offline, absent, or unplugged (mid-command). What a
real phone adds (SELinux, toybox, bionic) it cannot show.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORDS = {
    "unauthorized": "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set",
    "offline": "error: device offline",
    "absent": "error: device 'R5CT' not found",
}


def main(words: list[str]) -> int:
    if words[:2] != ["-s", "R5CT"]:
        sys.stderr.write(f"error: device '{words[1]}' not found\n")
        return 1
    state, words = (HERE / "STATE").read_text().strip(), words[2:]
    with (HERE / "LOG").open("a") as log:
        log.write(" ".join(words[:2]) + "\n")
    if state in WORDS:
        sys.stderr.write(WORDS[state] + "\n")
        return 1
    if words == ["get-state"]:
        print("device")
        return 0
    if words[0] == "push" and len(words) == 3:
        return push(*words[1:])
    if words[:2] == ["shell", "-T"]:
        return subprocess.run(["sh", "-c", " ".join(words[2:])], check=False).returncode
    sys.stderr.write(f"adb: unknown command {words[0]}\n")
    return 1


def push(here: str, there: str) -> int:
    try:
        shutil.copyfile(here, there)
    except OSError as error:
        Path(there).unlink(missing_ok=True)
        sys.stderr.write(f"adb: error: failed to copy '{here}' to '{there}': remote {error.strerror}\n")
        return 1
    print(f"{here}: 1 file pushed, 0 skipped.")
    return 0


sys.exit(main(sys.argv[1:]))
