"""`--offline`: a build that says so lets nothing leave this process."""

from __future__ import annotations

import os
import sys

from edgeft.errors import EdgeftError

_SENDING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
"""Audit events with (socket, address)."""
_ASKING = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"})
"""Audit events of name look-ups, the name or address first."""


def go_offline() -> None:
    """No socket leaves this process: hub clients are told, and any other attempt to connect raises."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})

    def refuse(event: str, args: tuple[object, ...]) -> None:
        if event in _SENDING:
            address = args[1]
            if address is None or isinstance(address, (str, bytes)):
                return  # a connected socket, or a local one (AF_UNIX): its address is a path
        elif event in _ASKING:
            address = args[0]
        else:
            return
        raise EdgeftError(
            f"a library tried to reach {address!r} although the build is offline",
            where="--offline",
            hint="gather what is missing where there is internet: edgeft fetch RECIPE --into DIR",
        )

    sys.addaudithook(refuse)
