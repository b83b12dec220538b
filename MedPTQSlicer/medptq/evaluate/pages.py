"""HTML pages that need nothing else: no scripts, and nothing is loaded from elsewhere."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from medptq.evaluate import formats


def render_page(template: str, **content: Any) -> str:
    """Return a page.

    Args:
        template: Name of one of this folder's templates, or the path of another room's, such as
            ``benchmarking/benchmark.html.j2``. What it is given is escaped.
        content: What the template asks for.
    """
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader(package, package_path="") for package in ("medptq.evaluate", "medptq")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        decimals=formats.decimals,
        seconds=formats.seconds,
        ms=formats.milliseconds,
        share=formats.share,
        ml=formats.millilitres,
        moment=formats.moment,
        percent=formats.percent,
    )
    return environment.get_template(template).render(**content)
