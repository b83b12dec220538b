"""Filling a folder with the cells that are not there yet."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from medptq.benchmarking.data_set import HeldPairs
from medptq.benchmarking.measuring import Bench, Measured, measured_to_json
from medptq.benchmarking.recipes import recipe_named
from medptq.benchmarking.store import Cell, CellStore
from medptq.benchmarking.subject import Plan, Subject, inputs_of, load_subject
from medptq.engines.built import cpu_name
from medptq.engines.memory import let_go_of_what_it_holds
from medptq.errors import Cancelled, MedPTQError, ModelError
from medptq.progress import Reporter


@dataclass(frozen=True)
class Task:
    """A cell to be measured.

    Attributes:
        network: What the network is loaded by.
        recipe: The recipe's name.
        inputs: All that decides the result.
    """

    network: str
    recipe: str
    inputs: dict[str, Any]


def open_tasks(
    networks: Sequence[str],
    recipes: Sequence[str],
    plan: Plan,
    store: CellStore,
    reporter: Reporter,
) -> list[Task]:
    """Return the cells that the store does not hold, network by network.

    Raises:
        ModelError: A network cannot be used.
        QuantizationError: A recipe is not known.
        ScanError: A scan is not there.
    """
    chosen = [recipe_named(name) for name in dict.fromkeys(recipes)]
    described = plan.to_json()
    tasks = []
    for network in reporter.track([*dict.fromkeys(networks)], "Loading networks"):
        subject = load_subject(network, reporter)
        for recipe in chosen:
            inputs = inputs_of(subject, recipe, described)
            if store.find(inputs) is None:
                tasks.append(Task(network, recipe.name, inputs))
    return tasks


class CellMaker:
    """Measures cells; what those of one network share is kept from one to the next.

    Args:
        plan: What networks are calibrated and tested on.
        reporter: Told of progress; may cancel.
    """

    def __init__(self, plan: Plan, reporter: Reporter) -> None:
        self._plan = plan
        self._reporter = reporter
        self._network = ""
        self._bench: Bench | None = None

    @cached_property
    def _pairs(self) -> HeldPairs:
        return HeldPairs(self._plan.data, self._plan.tested)

    def make(self, task: Task) -> Cell:
        """Measure a cell.

        Raises:
            MedPTQError: It cannot be measured.
            Cancelled: The user asked to stop.
        """
        if self._bench is None or self._network != task.network:
            self.close()
            subject = load_subject(task.network, self._reporter)
            if subject.digest != task.inputs["network"]["digest"]:
                raise ModelError(
                    "mismatch",
                    "The network was not tested",
                    why=f"{subject.model.id} is not the one that the benchmark was started with",
                    todo="Start it again, with the same files on all machines",
                )
            self._bench = Bench(subject, self._plan, self._pairs, self._reporter)
            self._network = task.network
        bench, recipe = self._bench, recipe_named(task.recipe)
        try:
            measured = bench.measure(recipe.way, recipe.title)
        except BaseException:
            self.close()  # which may be what is broken, or what fills the memory
            raise
        return _cell(task, bench.subject, measured)

    def close(self) -> None:
        """Let go of the network at hand."""
        if self._bench is not None:
            self._bench.close()
            self._bench = None


def _cell(task: Task, subject: Subject, measured: Measured) -> Cell:
    return Cell(
        inputs=task.inputs,
        network={
            "title": subject.model.title,
            "parameters": subject.parameters,
            "structures": _structures(subject),
        },
        result=measured_to_json(measured),
        run={
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "seconds": {name: round(n, 2) for name, n in measured.seconds.items()},
            "processor": _processor(measured.engine),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        },
    )


def _structures(subject: Subject) -> dict[str, str]:
    names = [label.name for label in subject.model.labels]
    return {
        # Two of one name are told apart by their numbers.
        str(label.value): label.name
        if names.count(label.name) == 1
        else f"{label.name} {label.value}"
        for label in subject.model.labels
    }


def _processor(engine: str) -> str:
    on_gpu = torch.cuda.is_available() and not engine.startswith("openvino")
    return torch.cuda.get_device_name() if on_gpu else cpu_name()


@dataclass(frozen=True)
class Failure:
    """A cell that could not be measured.

    Attributes:
        network: The network's id.
        recipe: The recipe's name.
        error: Why.
    """

    network: str
    recipe: str
    error: Exception


def run_here(
    tasks: Sequence[Task], plan: Plan, reporter: Reporter
) -> Iterator[tuple[Task, Cell | Exception]]:
    """Measure cells one after the other in this process.

    Yields:
        Each task with its cell, or with why there is none.

    Raises:
        Cancelled: The user asked to stop.
    """
    maker = CellMaker(plan, reporter)
    try:
        for task in tasks:
            reporter.check()
            try:
                yield task, maker.make(task)
            except Cancelled:
                raise
            except Exception as error:
                let_go_of_what_it_holds(error)
                yield task, error
    finally:
        maker.close()


def fill(
    outcomes: Iterator[tuple[Task, Cell | Exception]], store: CellStore, reporter: Reporter
) -> list[Failure]:
    """Keep cells as they come, and return those that could not be measured.

    Raises:
        Exception: A fault of this program, once the other cells are there.
        OutputError: A cell cannot be written.
        Cancelled: The user asked to stop; the cells that were finished stay.
    """
    failures: list[Failure] = []
    for task, outcome in outcomes:
        if isinstance(outcome, Cell):
            store.put(outcome)
        else:
            failure = Failure(task.inputs["network"]["id"], task.recipe, outcome)
            failures.append(failure)
            reporter.warn(f"{failure.network} was not tested by {failure.recipe}: {outcome}")
    for failure in failures:
        if not isinstance(failure.error, MedPTQError):
            raise failure.error
    return failures
