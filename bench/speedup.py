"""The quickstart's int8 artefacts against the float exports: interleaved latency, and accuracy.

Builds the quickstart first (cached after that); reads the artefacts from the store by the digests of its record.
"""

from __future__ import annotations

from bench.build import build

RECIPE = "edgeft:text/quickstart"


def main() -> None:
    """Print one line per int8 candidate, against ONNX Runtime's float."""
    from edgeft.device.profile import load_device
    from edgeft.targets.compare import compare_sides

    built, device = build(RECIPE), load_device("local-cpu")
    feeds = built.feeds(64)
    plain = built.side("local-cpu", "onnx/float", feeds)
    for row in built.record["targets"][0]["candidates"]:
        name = row["name"]
        if "int8" not in name or not row["digest"]:
            continue
        found = compare_sides(device, plain, built.side("local-cpu", name, feeds), seconds=20.0)
        low, high = found.interval
        lost = 100 * (built.accuracy("onnx/float") - built.accuracy(name))
        print(
            f"{name}: {found.b_ms:.2f} ms against {found.a_ms:.2f} ms float in ONNX Runtime, {found.ratio:.2f} times "
            f"faster (95% {low:.2f} to {high:.2f}, {found.blocks} blocks, {found.how}), {lost:+.2f} points of "
            f"search-set accuracy lost{'; INVALID: ' + '; '.join(found.reasons) if found.reasons else ''}"
        )


if __name__ == "__main__":
    main()
