"""`--wait-device`, for every command that uses a device."""

from __future__ import annotations

import argparse


def add_wait_option(parser: argparse.ArgumentParser) -> None:
    """`--wait-device TIME` as `wait_device`, seconds; 0 when not given."""
    parser.add_argument(
        "--wait-device", type=seconds, default=0.0, metavar="TIME",
        help="wait this long for a device that another process uses, e.g. 90s, 10m, 1h (default: do not wait)",
    )  # fmt: skip


def seconds(text: str) -> float:
    """`10m` in seconds."""
    from edgeft.device.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
