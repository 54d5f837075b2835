"""The command line called in this process, as a shell would."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from evermix.cli.app import main


class Ended(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed on stdout; NaN and infinity are refused."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON number")

        return json.loads(self.out, parse_constant=refuse)


def evermix(*arguments: object) -> Ended:
    """`evermix ARGUMENTS`."""
    out, err = StringIO(), StringIO()
    argv = ["evermix", *map(str, arguments)]
    streams = redirect_stdout(out), redirect_stderr(err)
    with patch.object(sys, "argv", argv), streams[0], streams[1], pytest.raises(SystemExit) as ended:
        main()
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())
