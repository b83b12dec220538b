"""A comparison in the views as time goes on: it blinks, and its surfaces come one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from MedPTQSlicerLib.compareModes import Shown
from MedPTQSlicerLib.compareViews import CompareViews

_BLINK_MS = 350  # for each of the two; slower than the three flashes a second that harm some


class CompareShow:
    """Shows one comparison, for as long as its views are shown.

    Args:
        views: The comparison's views; they may be left without :meth:`leave`.

    Attributes:
        views: See above.
    """

    def __init__(self, views: CompareViews) -> None:
        import qt

        self.views = views
        self._surfaces: Iterator[None] = iter(())
        self._blinked: Literal["fp32", "int8"] = "fp32"
        self._blinkTimer = qt.QTimer()
        self._blinkTimer.setInterval(_BLINK_MS)
        self._blinkTimer.connect("timeout()", self._onBlink)
        self._surfaceTimer = qt.QTimer()
        self._surfaceTimer.setInterval(0)
        self._surfaceTimer.connect("timeout()", self._onSurface)

    def show(self, shown: Shown, *, isBlinking: bool = False) -> None:
        """Show the comparison in a way of :class:`Shown`.

        Args:
            shown: The way.
            isBlinking: Whether ``BOTH`` shows FP32 and INT8 in turn instead of together.

        Raises:
            OutputError: See :meth:`CompareViews.show`.
            ScanError: Likewise.
        """
        self._stop()
        self.views.show(shown)
        self._surfaces = self.views.surfaceSteps()
        self._surfaceTimer.start()
        if isBlinking and shown is Shown.BOTH:
            self._onBlink()
            self._blinkTimer.start()

    def pause(self) -> None:
        """Stop to blink, and show what is shown otherwise."""
        if self._blinkTimer.isActive() and self.views.isShown:
            self._blinkTimer.stop()
            self.views.show(Shown.BOTH)

    def leave(self) -> None:
        """Bring back what was in the views before."""
        self._stop()
        self.views.leave()

    def _stop(self) -> None:
        self._blinkTimer.stop()
        self._surfaceTimer.stop()

    def _onBlink(self) -> None:
        if not self.views.isShown:
            self._stop()
            return
        self._blinked = "int8" if self._blinked == "fp32" else "fp32"
        self.views.showAlone(self._blinked)

    def _onSurface(self) -> None:
        if not self.views.isShown or next(self._surfaces, self) is self:
            self._surfaceTimer.stop()
