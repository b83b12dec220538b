"""The README's table of error codes against the codes that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREES = [
    ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "MedPTQSlicer").rglob("*.py")
]


def _families() -> dict[str, str]:
    """Return the error classes' families by the classes' names."""
    found = {}
    for tree in TREES:
        for kind in ast.walk(tree):
            for line in kind.body if isinstance(kind, ast.ClassDef) else ():
                told = re.match(r"family\b.*= '(\w+)'", ast.unparse(line))
                if told:
                    found[kind.name] = told[1]
    return found


def _codes_in(tree: ast.AST, families: dict[str, str]) -> Iterator[str]:
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.Module)):
            for call in _calls(function):
                family = families.get(ast.unparse(call.func))
                if family is not None and call.args:
                    for code in _texts(call.args[0], function, tree):
                        yield f"{family}.{code}"


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls of a function or module, without those of functions within it."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.Call):
            yield child
        if not isinstance(child, ast.FunctionDef):
            yield from _calls(child)


def _texts(code: ast.expr, function: ast.AST, tree: ast.AST) -> Iterator[str]:
    """Yield what a code can be: a text, one of two, a variable's value, or a parameter's."""
    if isinstance(code, ast.Constant):
        yield code.value
    elif isinstance(code, ast.IfExp):
        yield from _texts(code.body, function, tree)
        yield from _texts(code.orelse, function, tree)
    elif isinstance(code, ast.Name) and isinstance(function, ast.FunctionDef):
        for line in ast.walk(function):
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == code.id:
                yield from _texts(line.value, function, tree)
        names = [argument.arg for argument in function.args.args]
        if code.id in names:
            for call in ast.walk(tree):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == function.name:
                    yield from _texts(call.args[names.index(code.id)], call, tree)


def test_the_readme_explains_every_error_code_and_no_other() -> None:
    families = _families()
    codes = {code for tree in TREES for code in _codes_in(tree, families)}
    codes |= {"cancelled.user"}  # the class gives it itself
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`[a-z].*?) \|", readme, re.MULTILINE)
    explained = [code for row in table for code in re.findall(r"`([\w-]+\.[\w-]+)`", row)]
    assert len(explained) == len(set(explained))
    assert codes - set(explained) == set()
    assert set(explained) - codes == set()
    assert {"worker.killed", "worker.ended", "scan.missing-slices"} <= codes
