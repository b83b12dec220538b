"""Measuring cells with Dask: in several processes of this machine, or wherever workers wait."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from medptq.benchmarking.running import CellMaker, Task
from medptq.benchmarking.store import Cell
from medptq.benchmarking.subject import Plan
from medptq.errors import EngineError
from medptq.progress import Progress, Reporter

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE_SECONDS = 0.5
_ANSWER_SECONDS = 10

# Of a worker's process; at most one, and what its reporter was warned of since it was asked.
_held: list[tuple[Plan, CellMaker]] = []
_said: list[str] = []


def run_on_workers(
    tasks: Sequence[Task], plan: Plan, workers: int, scheduler: str, reporter: Reporter
) -> Iterator[tuple[Task, Cell | Exception]]:
    """Measure cells in other processes, as they become free.

    Args:
        tasks: The cells.
        plan: What networks are calibrated and tested on; by the same paths everywhere.
        workers: How many processes are started here, if no scheduler is named. Each has its share
            of the processor, and the GPUs in turn.
        scheduler: Address of a Dask scheduler whose workers have this program, or "".
        reporter: Told of progress, and once of each thing that a worker was warned of; may cancel,
            which ends what was started here.

    Yields:
        Each task with its cell, or with why there is none, as they are finished.

    Raises:
        EngineError: Dask is not installed, or the scheduler does not answer.
        Cancelled: The user asked to stop.
    """
    with _client(workers, scheduler) as client:
        task_of = {}
        # Sums over other numbers of threads differ in their last bits; who minds sets the variable.
        shared = not scheduler and "OMP_NUM_THREADS" not in os.environ
        threads = max(1, (os.cpu_count() or 1) // workers) if shared else 0
        for number, task in enumerate(tasks):
            future = client.submit(
                *(_measure, task, plan, threads), priority=-number, pure=False, retries=0
            )
            task_of[future] = task
        done, total = 0, max(len(tasks), 1)
        told: set[str] = set()
        waiting = set(task_of)
        try:
            while waiting:
                reporter.report(Progress("Testing networks", done, total, None))
                reporter.check()
                finished = [future for future in waiting if future.done()]
                if not finished:
                    _wait_for_one(waiting)
                for future in finished:
                    waiting.discard(future)
                    done += 1
                    error = future.exception()
                    made, said = (error, []) if error is not None else future.result()
                    for sentence in dict.fromkeys(said):
                        if sentence not in told:
                            told.add(sentence)
                            reporter.warn(sentence)
                    yield task_of[future], made
        finally:
            client.cancel(list(waiting))
        reporter.report(Progress("Testing networks", done, total, None))


def _wait_for_one(futures: set[Any]) -> None:
    from distributed import TimeoutError as TakesLonger  # not Python's own, before 3.11
    from distributed import wait

    with contextlib.suppress(TakesLonger):
        wait(list(futures), timeout=_PATIENCE_SECONDS, return_when="FIRST_COMPLETED")


def _client(workers: int, scheduler: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise EngineError(
            "unavailable",
            "The benchmark cannot be shared among processes",
            why="Dask is not installed",
            todo='Install it with pip install "medptq[cluster]", or start the benchmark several '
            "times with some of the networks each and the same --output",
        ) from error
    try:
        if scheduler:
            return Client(scheduler, timeout=_ANSWER_SECONDS)
        return Client(
            # Dask would pause a worker for good that holds its scans in memory, as ours do.
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address=None,
        )
    except (OSError, ValueError) as error:
        raise EngineError(
            "unavailable",
            "The benchmark cannot be shared among processes",
            why=f"the scheduler {scheduler or 'of this machine'} does not answer",
            todo="Check its address, which dask scheduler prints as it starts",
        ) from error


def _measure(task: Task, plan: Plan, threads: int) -> tuple[Cell | Exception, list[str]]:
    """Measure a cell in a worker's process; return it, or why there is none, and its warnings."""
    import torch
    from distributed import get_worker

    if threads:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        # Each worker of this machine has a number for a name; one elsewhere takes the first GPU.
        name = str(get_worker().name)
        torch.cuda.set_device((int(name) if name.isdecimal() else 0) % torch.cuda.device_count())
    if not _held or _held[0][0] != plan:
        while _held:
            _held.pop()[1].close()
        _held.append((plan, CellMaker(plan, Reporter(on_warning=_said.append))))
    _said.clear()
    try:
        return _held[0][1].make(task), list(_said)
    except Exception as error:
        return error, list(_said)
