"""The verb benchmark: networks by recipes on a data set, and the tables of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medptq.artifacts import require_free
from medptq.benchmarking.cluster import run_on_workers
from medptq.benchmarking.data_set import read_data_set
from medptq.benchmarking.recipes import recipes_here
from medptq.benchmarking.running import Failure, fill, open_tasks, run_here
from medptq.benchmarking.store import CellStore
from medptq.benchmarking.subject import plan_of
from medptq.benchmarking.summary import BenchmarkTable, tables_of
from medptq.benchmarking.writing import write_tables
from medptq.errors import OutputError, ScanError
from medptq.progress import Reporter

_SILENT = Reporter()


@dataclass(frozen=True)
class Benchmark:
    """What :func:`benchmark` did.

    Attributes:
        tables: One for each data set of the folder.
        measured: How many cells were measured now; the others were there.
        failures: Cells that could not be measured.
    """

    tables: tuple[BenchmarkTable, ...]
    measured: int
    failures: tuple[Failure, ...]


def benchmark(
    networks: Sequence[str | Path],
    data: str | Path | None,
    output: str | Path,
    *,
    folder: str | Path | None = None,
    recipes: Sequence[str] = (),
    limit: int | None = None,
    patches: int = 16,
    seed: int = 0,
    workers: int = 1,
    scheduler: str = "",
    reporter: Reporter = _SILENT,
) -> Benchmark:
    """Quantize networks by several recipes and hold them against the labels of a data set.

    Each network by each recipe is a cell, kept in ``output/cells`` as soon as it is finished: what
    is there is not run again, so a run that was stopped or killed is taken up by the same call,
    and several processes, each with some of the networks, may fill one folder at the same time.
    The tables, see :func:`medptq.benchmarking.writing.write_tables`, are of all cells of the
    folder.

    Args:
        networks: What :func:`medptq.load_model` takes. None at all: only the tables are written.
        data: The data set's description, see
            :func:`medptq.benchmarking.data_set.read_data_set`; None if there are no networks.
        output: The folder to write to.
        folder: Where the data set's scans lie; where its description does by default.
        recipes: Names of recipes, see :data:`medptq.benchmarking.recipes.RECIPES`; all that this
            machine can run by default.
        limit: How many of the test's scans are taken, the first ones; all by default.
        patches: How many patches networks are calibrated on, at most.
        seed: Decides which these are, and what is learned from them.
        workers: In how many processes of this machine cells are measured; more than one need Dask.
        scheduler: Address of a Dask scheduler whose workers measure them, in place of ``workers``.
        reporter: Told of progress and of cells that could not be measured; may cancel.

    Raises:
        ScanError: The data set cannot be used.
        ModelError: A network cannot be used.
        QuantizationError: A recipe is not known, the seed is below 0, or there are no patches.
        EngineError: Dask is not installed, or its scheduler does not answer.
        MedPTQError: Of the cells that were not there none could be measured; it is the reason of
            the first.
        OutputError: The folder cannot be written, or holds no cell.
        Cancelled: The user asked to stop; cells that were finished stay.

    Example:
        >>> done = benchmark(["unet.pth"], "hippocampus.json", "out")  # doctest: +SKIP
        >>> done.tables[0].rows[0].figures["w8a8-tensor"].dsc_drop     # doctest: +SKIP
        0.04
    """
    place = Path(output)
    require_free(place / "cells", overwrite=True)
    store = CellStore(place / "cells")
    measured = 0
    failures: list[Failure] = []
    if networks:
        if data is None:
            raise ScanError(
                "data-set",
                "The networks were not tested",
                why="no data set was named",
                todo="Give its description (--data)",
            )
        described = read_data_set(Path(data), None if folder is None else Path(folder))
        plan = plan_of(described, limit, patches, seed)
        names = [str(network) for network in networks]
        tasks = open_tasks(names, recipes or recipes_here(), plan, store, reporter)
        if workers > 1 or scheduler:
            outcomes = run_on_workers(tasks, plan, workers, scheduler, reporter)
        else:
            outcomes = run_here(tasks, plan, reporter)
        failures = fill(outcomes, store, reporter)
        measured = len(tasks) - len(failures)
    tables = tables_of(store.cells(reporter))
    if tables:
        write_tables(tables, place)
    if failures and not measured:
        raise failures[0].error
    if not tables:
        raise OutputError(
            "no-cells",
            "There is nothing to make a table of",
            why=f"{place} holds no results yet",
            todo="Give networks and a data set",
        )
    return Benchmark(tuple(tables), measured, tuple(failures))
