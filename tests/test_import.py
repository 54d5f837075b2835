"""The light install: names load on first use, and neither the package nor the command line needs torch."""

import importlib
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

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
        "import evermix.draft, evermix.reports.page, evermix.reports.run_tables",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    assert loaded_after(statement).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("more", "arguments", "message"),
    [
        ("", "update add r.yaml papers --files x.txt --dry-run", "needs a recipe of method olmix"),
        ("method: olmix\n", "update remove r.yaml a", "needs a project that has decided"),
        ("method: olmix\n", "update undo r.yaml", "needs a project that has decided"),
        ("", "compare r.yaml --arms natural,best --dry-run", "arms"),
        ("seeds: 1\n", "run r.yaml --dry-run", "seeds"),
    ],
)
def test_what_needs_no_torch_is_refused_before_it_is_loaded(
    more: str, arguments: str, message: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"project: {tmp_path}\n{more}domains: [{{name: a, files: a.txt}}]\ntraining: {{tokens: 1M}}\n")
    words = ["evermix", *arguments.replace("r.yaml", str(recipe)).split()]
    code = (
        f"import sys; sys.argv = {words!r}\nfrom evermix.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    print(ended.code, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "2 False\n"
    assert message in ended.stderr


def test_the_package_alone_loads_none_of_its_rooms() -> None:
    code = "import evermix, sys; print(*(name for name in sys.modules if name.startswith('evermix.')))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["evermix.version"]


def test_help_is_quick() -> None:
    """0.5 s for the help, 1 s for the import, of processor time: a busy machine takes longer by the clock."""

    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds("-c", "from evermix.cli import main; main()", "--help") for _ in range(3)) < 0.5
    assert min(seconds("-c", "import evermix") for _ in range(3)) < 1.0


@pytest.mark.parametrize("name", em.__all__)
def test_every_public_name_is_what_the_stub_says(name: str) -> None:
    """What a type checker reads in the stub and what Python loads are one object, and it is documented."""
    module, name_there = em._HOMES[name]
    value = getattr(em, name)
    assert value is getattr(importlib.import_module(module), name_there)
    assert value.__doc__


def test_names_that_are_there_and_that_are_not() -> None:
    assert len(set(em.__all__)) == len(em.__all__)
    assert set(em.__all__) <= set(dir(em))
    assert em.__version__.count(".") == 2
    assert callable(em.report)
    assert issubclass(em.errors.RecipeError, em.EvermixError)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = em.nonsense


def test_everything_that_is_no_module_is_package_data() -> None:
    """A wheel holds the templates and the sample swarm, too."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    carried = {pattern.rpartition("*")[2] for pattern in project["tool"]["setuptools"]["package-data"]["evermix"]}
    files = [
        path for path in (root / "src" / "evermix").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {path.suffix for path in files} <= {".py", ".typed", *carried}
    assert (Path(str(em.__file__)).parent / "observations" / "sample_swarm" / "metrics.csv").is_file()
