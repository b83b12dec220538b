"""The work that a client can ask for; what each method needs is imported on its first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq import answers
from medptq.answers import Answer
from medptq.progress import Reporter
from medptq.quantization.recipe import Recipe

if TYPE_CHECKING:
    from medptq.inference.sessions import SessionPool

Params = Mapping[str, Any]


class Workshop:
    """Does the work, one piece at a time, and keeps the networks that it used open.

    Attributes:
        methods: By name; each takes params that were checked, and a reporter.
        aside: Those that wait for no other: they read small files only, and change nothing.
    """

    aside = frozenset({"models"})

    def __init__(self) -> None:
        self._pool: SessionPool | None = None
        self.methods: dict[str, Callable[[Params, Reporter], Answer]] = {
            "models": self._models,
            "import": self._import,
            "remove": self._remove,
            "clear": self._clear,
            "inspect": self._inspect,
            "doctor": self._doctor,
            "load": self._load,
            "quantize": self._quantize,
            "segment": self._segment,
            "compare": self._compare,
            "release": self._release,
        }

    def close(self) -> int:
        """Close the networks that are open and return how many there were."""
        return 0 if self._pool is None else self._pool.close()

    def _models(self, _: Params, __: Reporter) -> Answer:
        from medptq.housekeeping import list_models

        return answers.models_answer(list_models())

    def _import(self, params: Params, reporter: Reporter) -> Answer:
        from medptq.models.importing import import_model

        return answers.import_answer(import_model(params["path"], reporter=reporter))

    def _remove(self, params: Params, __: Reporter) -> Answer:
        from medptq.housekeeping import remove_model

        self.close()  # what is open may be what is to go
        return answers.freed_answer(remove_model(params["model"], params.get("what", "all")))

    def _clear(self, _: Params, __: Reporter) -> Answer:
        from medptq.housekeeping import clear_cache

        self.close()
        return answers.freed_answer(clear_cache())

    def _inspect(self, params: Params, reporter: Reporter) -> Answer:
        from medptq.scans.inspecting import inspect_scans

        found = inspect_scans(params["scans"], params.get("channels", 1), reporter=reporter)
        return answers.inspect_answer(found)

    def _doctor(self, _: Params, reporter: Reporter) -> Answer:
        from medptq.engines.doctor import examine

        [diagnosis] = [examine() for _ in reporter.track([None], "Examining this machine")]
        return answers.doctor_answer(diagnosis)

    def _load(self, params: Params, reporter: Reporter) -> Answer:
        from medptq import api

        return answers.network_answer(api.load_model(params["model"], reporter=reporter))

    def _quantize(self, params: Params, reporter: Reporter) -> Answer:
        from medptq import api

        self.close()  # calibration needs the memory
        made = api.quantize(
            params["model"],
            params["scans"],
            params.get("output"),
            recipe=_recipe(params.get("recipe", {})),
            overwrite=params.get("overwrite", False),
            reporter=reporter,
        )
        return answers.quantize_answer(made)

    def _segment(self, params: Params, reporter: Reporter) -> Answer:
        from medptq import api
        from medptq.inference.sessions import SessionPool

        if self._pool is None:
            self._pool = SessionPool()
        opened = self._pool.opened
        precision = params.get("precision")
        results = api.segment(
            params["network"],
            params["scan"],
            params["output"],
            engine=params.get("engine", "auto"),
            precision=None if precision == "best" else precision,
            overwrite=params.get("overwrite", False),
            pool=self._pool,
            reporter=reporter,
        )
        return {**answers.segment_answer(results), "warm": self._pool.opened == opened}

    def _compare(self, params: Params, reporter: Reporter) -> Answer:
        from medptq import api

        self.close()  # what is held here must not slow what is measured
        comparison = api.compare(
            params["model"],
            params.get("quantized"),
            params["scan"],
            params["output"],
            reference=params.get("reference"),
            overwrite=params.get("overwrite", False),
            reporter=reporter,
        )
        return answers.compare_answer(comparison, str(Path(params["output"])))

    def _release(self, _: Params, __: Reporter) -> Answer:
        return {"released": self.close()}


def _recipe(values: Params) -> Recipe:
    # JSON has one kind of number: 16.0 patches are 16 all the same.
    kinds = {name: type(value) for name, value in Recipe().to_json().items()}
    return Recipe.from_json({name: kinds[name](value) for name, value in values.items()})
