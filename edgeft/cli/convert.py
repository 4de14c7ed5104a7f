"""`edgeft convert`: a pickle checkpoint to safetensors, safely."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Turn a pickle checkpoint into safetensors, safely"
DESCRIPTION = """Turn a pickle checkpoint (.pt, .pth, .bin, .ckpt) or the .index.json of a sharded one into safetensors.

A pickle can run any program while it is read, so edgeft trains and exports from safetensors only. This command reads
the weights, and nothing but weights, in a child process without network that may write one file; its memory is limited
to three times the file's size plus 1 GiB, its time to 120 seconds plus one for every 10 MB."""
EPILOG = """examples:
  edgeft convert model.pt                              writes model.safetensors beside it
  edgeft convert last.ckpt --key state_dict --output weights/net.safetensors
  edgeft convert pytorch_model.bin.index.json          one safetensors file per shard, and an index
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `convert`."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="the checkpoint, or the index of a sharded one")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: beside the checkpoint)")
    parser.add_argument(
        "--key", default="", metavar="KEY", help="where the weights are inside it, e.g. state_dict or ema.model"
    )
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="longest time for one file")


def run(args: argparse.Namespace) -> int:
    """Convert and say what was done with everything in the checkpoint."""
    from edgeft.models.convert import convert_checkpoint

    done = convert_checkpoint(args.checkpoint, args.output, args.key, args.timeout)
    shards = f" in {done.files} shards" if done.files > 1 else ""
    print(f"wrote {done.output}: {done.tensors} tensors, {done.bytes / 1e6:.1f} MB{shards}")
    if done.under:
        print(f"  the weights were under '{done.under}'")
    for first, second in done.tied[:5]:
        print(f"  {second} shares its data with {first}: both are written")
    if len(done.tied) > 5:
        print(f"  and {len(done.tied) - 5} more such pairs")
    if done.dropped:
        more = f" and {len(done.dropped) - 8} more" if len(done.dropped) > 8 else ""
        print(f"  left out: {', '.join(map(ascii, done.dropped[:8]))}{more}")
    return 0


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("must be above 0")
    return value
