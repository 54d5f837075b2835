"""The light install: names load on first use, and neither the package nor the command line needs torch."""

import subprocess
import sys
import time

import pytest

import evermix as em

HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "tokenizers", "pyarrow", "matplotlib", "cvxpy")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import evermix, evermix.cli",
        "import evermix as em; em.Domain, em.DomainSet, em.Mixture, em.Objective, em.Constraints, em.Recipe, em.report",
        "import evermix.draft, evermix.reports.html, evermix.reports.tables, evermix.reports.plots",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    assert loaded_after(statement).isdisjoint(HEAVY)


def test_help_is_quick() -> None:
    """Best of three, for a busy machine: target 0.5 s for the help, 1 s for the import."""

    def seconds(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(seconds("-c", "from evermix.cli import main; main()", "--help") for _ in range(3)) < 0.5
    assert min(seconds("-c", "import evermix") for _ in range(3)) < 1.0


def test_every_public_name_is_there() -> None:
    for name in em.__all__:
        if name not in ("run", "plan"):  # these two load torch
            assert getattr(em, name) is not None
    assert set(em.__all__) <= set(dir(em))
    assert em.__version__.count(".") == 2
    assert callable(em.report)
    assert issubclass(em.errors.RecipeError, em.EvermixError)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = em.nonsense
