"""The command line: one file per verb, each one call of the function of the same name."""

from evermix.cli.app import app, main

__all__ = ["app", "main"]
