"""A small measured swarm that the package carries, to try everything that begins with a table of runs.

36 proxies of 0.05M parameters, each trained on 260,000 tokens of a mixture of seven domains: code, a dictionary,
articles, licences, dialogues, and noise; bits per byte on held-out text of each but noise. `tools/sample_swarm.py`
measured them.
"""

from __future__ import annotations

from pathlib import Path

from evermix.errors import ObservationError
from evermix.files import write_atomically

_FOLDER = Path(__file__).with_name("sample_swarm")


def example(folder: str | Path = "swarm", *, overwrite: bool = False) -> Path:
    """Write the sample swarm (ratios.csv, metrics.csv, tokens.yaml, layout.yaml) into a folder; returns it.

        runs = em.read_observations(em.example("swarm")).observations

    Args:
        overwrite: whether files of these names may be in it.

    Raises:
        ObservationError: the folder is a file, or holds such a file and `overwrite` is not set.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ObservationError(f"{folder}: the sample goes into a folder, and this is a file", hint="name another")
    files = sorted(_FOLDER.iterdir())
    there = [folder / file.name for file in files if (folder / file.name).exists()]
    if there and not overwrite:
        raise ObservationError(f"{there[0]}: the sample must not overwrite a file", hint="--force, or another folder")
    for file in files:
        write_atomically(folder / file.name, file.read_text(encoding="utf-8"))
    return folder
