"""The environment check: the Python first, which takes no time, then the worker's own doctor."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from medptq.errors import Cancelled, MedPTQError
from medptq.installation.facts import Facts
from MedPTQSlicerLib.computerVerdict import (
    Verdict,
    verdictOfDoctor,
    verdictOfError,
    verdictOfFacts,
)
from MedPTQSlicerLib.pythonProbe import probeSteps
from MedPTQSlicerLib.pytorchExtension import hasPyTorchExtension
from MedPTQSlicerLib.requirements import Unmet, loadRequirements, unmetRequirements
from MedPTQSlicerLib.workerClient import WorkerClient
from MedPTQSlicerLib.workerLaunch import WorkerPython, chosenPython


@dataclass(frozen=True)
class ComputerReport:
    """All that a check has found.

    Attributes:
        verdict: What it means.
        python: The Python that was looked at; None where there is none.
        facts: What it has; None where it did not answer.
        unmet: What it lacks.
        answer: What the worker's ``doctor`` answered; None where it was not asked, or failed.
        error: Why there is no answer, where it was asked.
    """

    verdict: Verdict
    python: WorkerPython | None = None
    facts: Facts | None = None
    unmet: tuple[Unmet, ...] = ()
    answer: Mapping[str, Any] | None = None
    error: MedPTQError | None = None


def checkSteps(client: WorkerClient) -> Generator[Any, Any, ComputerReport]:
    """Check this computer and the Python that is chosen; the steps of a job. It fails never."""
    python: WorkerPython | None = None
    facts: Facts | None = None
    unmet: tuple[Unmet, ...] = ()
    try:
        python = chosenPython()
        facts = yield from probeSteps(python)
        unmet = unmetRequirements(facts, loadRequirements())
        verdict = verdictOfFacts(python, facts, unmet, hasPyTorchExtension=hasPyTorchExtension())
        if verdict is not None:
            return ComputerReport(verdict, python, facts, unmet)
        yield "Proving the engines"
        answer = yield client.request("doctor")
    except Cancelled:
        raise
    except MedPTQError as error:
        return ComputerReport(verdictOfError(error, python), python, facts, unmet, error=error)
    return ComputerReport(verdictOfDoctor(answer), python, facts, answer=answer)
