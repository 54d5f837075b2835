"""The command line as a user meets it: exit codes, one-line errors, help, and its page in docs/."""

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evermix.cli.app import VERBS
from evermix.cli.reference import help_text
from evermix.cli.terminal import console, describe, one_line_errors
from evermix.errors import CorpusError
from evermix.ledger import Ledger
from evermix.version import VERSION
from tests.cli.called import Ended

Run = Callable[..., Ended]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "p" / "ledger.sqlite")
    ledger.append("probe", "1", {"component": "web", "steps": 5, "flops": 2e9, "seconds": 1.5})
    (tmp_path / "p" / "status.json").write_text(
        '{"part": "probes", "detail": "web", "step": 1, "total_steps": 4, "pid": 0}'
    )
    return tmp_path / "p"


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_help_has_examples(verb: str) -> None:
    assert f"Examples:\n    evermix {verb}" in help_text(verb)


def test_one_line_per_verb() -> None:
    """The first sentence of a help fits into the list of commands."""
    for listed in (help_text(), help_text("update")):
        assert "..." not in listed.split("Commands:")[1]


def test_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("evermix 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "absent.yaml"),
        ("run", "absent.yaml", "--dry-run"),
        ("status", "absent"),
        ("report", "absent"),
        ("log", "absent"),
        ("init", "absent"),
    ],
)
def test_missing_input_is_one_line_and_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: absent")
    assert "Hint: " in err
    assert err.count("\n") == 1


def test_unknown_verb_and_option(run: Run) -> None:
    assert run("frobnicate")[0] == 2
    assert run("status", "x", "--frobnicate")[0] == 2


def test_status_log_report(run: Run, project: Path) -> None:
    code, out, _ = run("status", project)
    assert code == 0
    assert "1 of 4 (25%)" in out
    assert run("status", project, "--json").json["entries"] == {"probe": 1}
    assert "probed web for 5 steps" in run("log", project)[1]
    assert run("log", project, "--json").json[0]["flops"] == 2e9
    code, out, _ = run("report", project, "--tables")
    assert code == 0
    assert "Not finished" in out
    assert (project / "report.html").exists()


def test_init_then_dry_run_reads_the_recipe(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("words words\n\n" * 2000)
    recipe = tmp_path / "recipe.yaml"
    code, out, _ = run("init", tmp_path / "data", "--output", recipe)
    assert code == 0
    assert str(recipe) in out
    code, _, err = run("init", tmp_path / "data", "--output", recipe)
    assert code == 2
    assert "--force" in err


def test_list_corpora(run: Run) -> None:
    names = [row["name"] for row in run("list-corpora", "--json").json]
    assert len(names) == len(set(names)) >= 5
    assert names[0] in run("list-corpora")[1]


def test_the_width_asked_for_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, width in (("77", 77), ("300", 300), ("1", 40), ("0", 120), ("wide", 120), ("", 120)):
        monkeypatch.setenv("COLUMNS", asked)
        assert console().width == width


def test_python_m_evermix() -> None:
    ended = subprocess.run([sys.executable, "-m", "evermix", "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"evermix {VERSION}\n"


def guarded(error: BaseException) -> None:
    def verb() -> None:
        raise error

    one_line_errors(verb)()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CorpusError("file\nx must be text"), 2, r"error: file\nx must be text"),
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), 2, "error: a.bin: the disk is full. Hint: free"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: the disk is full. Hint: free"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), 2, "error: a.txt: permission denied. Hint"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "pip install -e '.[train]'"),
        (ModuleNotFoundError("No module named 'datasets.x'", name="datasets.x"), 2, "pip install -e '.[datasets]'"),
        (MemoryError(), 2, "error: not enough memory (MemoryError). Hint: lower training.batch_sequences"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            2,
            "error: not enough mem",
        ),
        (KeyboardInterrupt(), 130, "interrupted: run the same command again to go on"),
    ],
)
def test_mendable_errors(error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        guarded(error)
    assert ended.value.code == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), RuntimeError("a bug"), ModuleNotFoundError("x", name="mine"), OSError("a bug")]
)
def test_bugs_keep_their_trace(error: Exception) -> None:
    assert describe(error) is None
    with pytest.raises(type(error)):
        guarded(error)


def test_reader_that_goes_away(project: Path) -> None:
    """`evermix log | head` ends in silence."""
    ledger = Ledger(project / "ledger.sqlite")
    for number in range(2000):
        if number % 400 == 0:  # few commits, long stories
            ledger.append("probe", f"long {number}", {"component": "x" * 60_000, "steps": number})
    command = f"{sys.executable} -c 'from evermix.cli import main; main()' log {project} | head -1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
