"""What a person sees in the terminal while the program works."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from medptq.progress import Progress as Report
from medptq.progress import Reporter

_LINE_EVERY_SECONDS = 5.0


class Terminal:
    """Progress bars with the time that is left, warnings, and Ctrl-C that stops cleanly.

    Everything goes to stderr, so that stdout is the result's alone. Where stderr is no terminal,
    a line is printed when a stage begins and every few seconds after. Use it as a context
    manager.

    Args:
        quiet: Show no progress; warnings are shown all the same.

    Attributes:
        reporter: To be passed to the work.
        warnings: Every warning so far.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.warnings: list[str] = []
        self.reporter = Reporter(
            on_progress=None if quiet else self._show,
            on_warning=self._warn,
            cancelled=lambda: self._stopping,
        )
        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, float] = {}
        self._stopping = False
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Terminal:
        """Begin to show progress and to listen for Ctrl-C."""
        self._exits.enter_context(self._bars)
        self._exits.enter_context(self._listening())
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._exits.close()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal asks
            if self._stopping:
                raise KeyboardInterrupt
            self._stopping = True
            # By a thread: this may have interrupted a line that is just being written, and Python
            # refuses to write another within it.
            text = "Stopping after the step at hand; press Ctrl-C again to stop now."
            threading.Thread(target=self._console.print, args=[text]).start()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _show(self, report: Report) -> None:
        left = "" if report.eta_seconds is None else f"{_duration(report.eta_seconds)} left"
        if self._console.is_terminal:
            if report.stage not in self._tasks:
                self._tasks[report.stage] = self._bars.add_task(
                    report.stage, total=report.total, left=left
                )
            self._bars.update(
                self._tasks[report.stage],
                completed=report.done,
                total=report.total,
                left="done" if report.done == report.total else left,
            )
            return
        now = time.monotonic()
        if now - self._printed.get(report.stage, -_LINE_EVERY_SECONDS) >= _LINE_EVERY_SECONDS:
            self._printed[report.stage] = now
            amount = f" {report.fraction:.0%}" if report.total > 1 else ""
            self._console.print(f"{report.stage}{amount}{f', {left}' if left else ''} ...")

    def _warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
        self._console.print(f"Warning: {sentence}", soft_wrap=True, markup=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
