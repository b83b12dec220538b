"""Dialogs that a test answers: none is ever waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtWidgets

from StandIn import pythonqt


@dataclass(frozen=True)
class Dialog:
    """What would have been shown.

    Attributes:
        kind: its class, or class and static function, such as ``QFileDialog.getOpenFileName``.
        text: what a message box says, with what is below it; else empty.
        title: the window's title.
        buttons: the texts on a message box's buttons.
        details: the detailed text of a message box.
    """

    kind: str
    text: str = ""
    title: str = ""
    buttons: tuple[str, ...] = ()
    details: str = ""


@dataclass
class Dialogs:
    """The dialogs of one test.

    A question without an answer fails the test at once, a message that the test did not
    :meth:`take` fails it at its end.
    """

    shown: list[Dialog] = field(default_factory=list)
    unseen: list[Dialog] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _answers: deque[Any] = field(default_factory=deque)

    def answer(self, *answers: Any) -> None:
        """Answer the next dialogs, in their order.

        Args:
            *answers: for a message box a button (``qt.QMessageBox.Yes``) or its text; for a file
                dialog a path; for any other dialog what ``exec_()`` returns. Or a function that
                gets the dialog and returns one of these.
        """
        self._answers.extend(answers)

    def take(self) -> list[Dialog]:
        """Return what was shown since the last call; the test has seen it by that."""
        taken, self.unseen = self.unseen, []
        return taken

    def check(self) -> None:
        """Raise AssertionError if a dialog was unanswered or not looked at, or none came."""
        assert not self.failures, "; ".join(self.failures)
        messages = [f"{dialog.kind}: {dialog.text}" for dialog in self.unseen]
        assert not messages, f"shown, but not expected: {messages}"
        assert not self._answers, f"answers to dialogs that were not shown: {list(self._answers)}"

    def ask(self, dialog: Dialog, subject: Any = None) -> Any:
        """Record a dialog and return the test's answer to it."""
        self.shown.append(dialog)
        if not self._answers:
            self.failures.append(f"a dialog was not answered: {dialog}")
            raise AssertionError(self.failures[-1])
        answer = self._answers.popleft()
        return answer(subject) if callable(answer) else answer

    def tell(self, dialog: Dialog) -> None:
        """Record a dialog that leaves nothing to choose."""
        self.shown.append(dialog)
        self.unseen.append(dialog)


current = Dialogs()


def fresh() -> Dialogs:
    """Return the dialogs of a test that begins."""
    current.__init__()  # type: ignore[misc]
    return current


def run_message_box(box: QtWidgets.QMessageBox) -> Any:
    """Answer a message box's ``exec``."""
    if not box.buttons():
        box.addButton(QtWidgets.QMessageBox.StandardButton.Ok)
    # The button that shows the details is Qt's own and answers nothing.
    details = "Show Details..." if box.detailedText() else None
    buttons = [button for button in box.buttons() if button.text() != details]
    texts = [button.text().replace("&", "") for button in buttons]
    text = "\n".join(filter(None, [box.text(), box.informativeText()]))
    dialog = Dialog(
        type(box).__name__, text, box.windowTitle().strip(), tuple(texts), box.detailedText()
    )
    if len(buttons) == 1:
        current.tell(dialog)
        pressed = buttons[0]
    else:
        answer = current.ask(dialog, pythonqt.wrap(box))
        standard = pythonqt.unwrap(answer)
        chosen = [
            button
            for button, label in zip(buttons, texts, strict=True)
            if answer == label or box.standardButton(button) == standard
        ]
        assert chosen, f"{answer!r} is none of the buttons {texts} of '{text}'"
        pressed = chosen[0]
    box.show()
    pressed.click()
    return box.standardButton(pressed).value


def run_dialog(dialog: QtWidgets.QDialog) -> Any:
    """Answer any other dialog's ``exec``; it is shown while the answer is found."""
    if isinstance(dialog, QtWidgets.QMessageBox):
        return run_message_box(dialog)
    dialog.show()
    try:
        return current.ask(
            Dialog(type(dialog).__name__, title=dialog.windowTitle()), pythonqt.wrap(dialog)
        )
    finally:
        dialog.hide()


def _asking(kind: str, accepted: type) -> Callable[..., Any]:
    def ask(parent: Any = None, caption: str = "", *_: Any) -> Any:
        answer = current.ask(Dialog(kind, text=caption, title=caption))
        assert isinstance(answer, accepted), f"{kind} returns no {type(answer).__name__}"
        return answer

    return ask


def _message(icon: str) -> Callable[..., Any]:
    def show(parent: Any, title: str, text: str, *buttons: Any) -> Any:
        box = QtWidgets.QMessageBox(pythonqt.unwrap(parent))
        box.setIcon(getattr(QtWidgets.QMessageBox.Icon, icon))
        box.setWindowTitle(title)
        box.setText(text)
        default = ("Yes", "No") if icon == "Question" else ("Ok",)
        for name in () if buttons else default:
            box.addButton(getattr(QtWidgets.QMessageBox.StandardButton, name))
        if buttons:
            box.setStandardButtons(pythonqt.unwrap(buttons[0]))
        return run_message_box(box)

    return show


for _name, _type in {
    "getExistingDirectory": str,
    "getOpenFileName": str,
    "getSaveFileName": str,
    "getOpenFileNames": tuple,
}.items():
    # PythonQt gives the path alone, PySide6 a pair with the filter.
    pythonqt.STATIC_METHODS["QFileDialog", _name] = _asking(f"QFileDialog.{_name}", _type)
for _name in ("information", "warning", "critical", "question"):
    pythonqt.STATIC_METHODS["QMessageBox", _name] = _message(_name.capitalize())
for _name in ("exec", "exec_"):
    pythonqt.METHODS["QDialog", _name] = run_dialog
