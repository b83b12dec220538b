"""The command line: ``medptq models | doctor | quantize | segment | compare``."""

from medptq.cli.program import main

__all__ = ["main"]
