"""The command line: ``medptq COMMAND``; :mod:`medptq.cli.arguments` lists the commands."""

from medptq.cli.program import main

__all__ = ["main"]
