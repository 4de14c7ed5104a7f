"""What a build says while it runs: live on a terminal, plain lines elsewhere, JSON lines for machines, or nothing."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from edgeft.stage import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Mode = Literal["live", "plain", "json", "quiet"]
PLAIN_INTERVAL_S = 10.0
ETA_WINDOW = 7
"""Marks of ten seconds: the pace of the last minute tells more than that of a slow start."""


class Events(Protocol):
    """The events of a build."""

    def started(self, step: str, title: str, why: str) -> None: ...
    def progress(self, event: Progress) -> None: ...
    def finished(self, step: str, title: str, seconds: float) -> None: ...
    def cached(self, step: str, title: str) -> None: ...
    def warn(self, step: str, text: str) -> None: ...
    def note(self, step: str, text: str) -> None: ...
    def close(self) -> None: ...


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def eta(done: float, total: float, elapsed: float) -> str:
    """Time left at the pace so far; empty while nothing can be said."""
    if total <= 0 or done <= 0 or elapsed < 1:
        return ""
    return duration(max(0.0, elapsed * (total - done) / done))


def amount(event: Progress) -> str:
    """`12/220 step`, `9.8/10 s`."""
    done, total = (f"{value:.0f}" if value == int(value) else f"{value:.1f}" for value in (event.done, event.total))
    return f"{done}/{total} {event.unit}".strip() if event.total else f"{done} {event.unit}".strip()


def open_events(mode: Mode, stream: TextIO) -> Events:
    """The renderer for a mode; `live` needs a terminal and falls back to plain lines without one."""
    if mode == "quiet":
        return Quiet(stream)
    if mode == "json":
        return JsonLines(stream)
    if mode == "live" and stream.isatty():
        return Live(stream)
    return Plain(stream)


@dataclass
class Quiet:
    """Nothing but warnings."""

    stream: TextIO

    def started(self, step: str, title: str, why: str) -> None:
        """Silent."""

    def progress(self, event: Progress) -> None:
        """Silent."""

    def finished(self, step: str, title: str, seconds: float) -> None:
        """Silent."""

    def cached(self, step: str, title: str) -> None:
        """Silent."""

    def warn(self, step: str, text: str) -> None:
        """Warnings are worth a line even then."""
        print(f"warning: {step}: {text}", file=self.stream)

    def note(self, step: str, text: str) -> None:
        """Silent."""

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Plain(Quiet):
    """One line per event; a long step says where it is every ten seconds."""

    said: float = 0.0
    marks: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=ETA_WINDOW))

    def started(self, step: str, title: str, why: str) -> None:
        """The step and why it runs."""
        self.said = time.monotonic()
        self.marks.clear()
        print(f"run     {step}: {title} ({why})", file=self.stream)

    def progress(self, event: Progress) -> None:
        """At most one line each ten seconds."""
        now = time.monotonic()
        if not self.marks or event.done < self.marks[-1][1]:
            self.marks.clear()
            self.marks.append((now, event.done))  # a resumed step begins where it was, a second pass at nought
        if now - self.said < PLAIN_INTERVAL_S:
            return
        self.said = now
        began, before = self.marks[0]
        self.marks.append((now, event.done))
        left = eta(event.done - before, event.total - before, now - began)
        parts = [amount(event), event.note, f"{left} left" if left else ""]
        print(f"        {event.step}: {', '.join(part for part in parts if part)}", file=self.stream)

    def finished(self, step: str, title: str, seconds: float) -> None:
        """How long it took."""
        print(f"done    {step} in {duration(seconds)}", file=self.stream)

    def cached(self, step: str, title: str) -> None:
        """Nothing had to be done."""
        print(f"cached  {step}", file=self.stream)

    def note(self, step: str, text: str) -> None:
        """Such as: waiting for another build."""
        print(f"note    {step}: {text}", file=self.stream)


@dataclass
class JsonLines(Quiet):
    """One JSON object a line: {event, step, ...}; seconds since the start in `t`."""

    began: float = field(default_factory=time.monotonic)

    def _say(self, event: str, **values: Any) -> None:
        line = {"event": event, "t": round(time.monotonic() - self.began, 3), **values}
        print(json.dumps(line, ensure_ascii=False), file=self.stream, flush=True)

    def started(self, step: str, title: str, why: str) -> None:
        """event: started."""
        self._say("started", step=step, title=title, why=why)

    def progress(self, event: Progress) -> None:
        """event: progress."""
        self._say("progress", step=event.step, done=event.done, total=event.total, unit=event.unit, note=event.note)

    def finished(self, step: str, title: str, seconds: float) -> None:
        """event: finished."""
        self._say("finished", step=step, seconds=round(seconds, 3))

    def cached(self, step: str, title: str) -> None:
        """event: cached."""
        self._say("cached", step=step)

    def warn(self, step: str, text: str) -> None:
        """event: warning."""
        self._say("warning", step=step, text=text)

    def note(self, step: str, text: str) -> None:
        """event: note."""
        self._say("note", step=step, text=text)


class Live:
    """A line with a bar for the running step, finished steps above it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.console = Console(file=stream)
        self.bar: RichProgress = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.task: TaskID | None = None
        self.bar.start()

    def started(self, step: str, title: str, why: str) -> None:
        """Show the step with an endless bar until it tells how far it is."""
        from rich.markup import escape

        self._drop()
        self.task = self.bar.add_task(f"[bold]{step}[/] {title}", total=None, amount="", note=escape(why))

    def progress(self, event: Progress) -> None:
        """Move the bar."""
        from rich.markup import escape

        if self.task is not None:
            note, total = escape(event.note), event.total or None
            self.bar.update(self.task, completed=event.done, total=total, amount=amount(event), note=note)

    def finished(self, step: str, title: str, seconds: float) -> None:
        """Leave a line behind."""
        self._drop()
        self.console.print(f"[green]done[/]    {step}  {title}  [dim]{duration(seconds)}")

    def cached(self, step: str, title: str) -> None:
        """Leave a line behind."""
        self.console.print(f"[cyan]cached[/]  {step}  [dim]{title}")

    def warn(self, step: str, text: str) -> None:
        """Leave a line behind."""
        from rich.markup import escape

        self.console.print(f"[yellow]warning[/] {step}: {escape(text)}")

    def note(self, step: str, text: str) -> None:
        """Show beside the bar."""
        from rich.markup import escape

        text = escape(text)
        if self.task is not None:
            self.bar.update(self.task, note=text)
        else:
            self.console.print(f"[dim]note    {step}: {text}")

    def close(self) -> None:
        """Remove the bar."""
        self._drop()
        self.bar.stop()

    def _drop(self) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
