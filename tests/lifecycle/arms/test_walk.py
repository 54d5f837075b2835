"""The walk of docs/contributing.md: a run goes down the chain once per phase, and climbs back into nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import evermix
from evermix.lifecycle import run
from evermix.recipe import Recipe

LIFECYCLE = Path(evermix.__file__).parent / "lifecycle"
STEPS = {
    ("context.py", "open_context"): "context",
    ("arms/decided.py", "run"): "arm",
    ("deciding.py", "decide"): "decide",
    ("evidence/probes.py", "measure"): "evidence",
    ("evidence/probes.py", "conclude"): "conclude",
    ("state.py", "train"): "train",
    ("scoring.py", "score"): "score",
    ("assembling.py", "phase_result"): "result of the phase",
    ("assembling.py", "assemble"): "result",
}


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """What is entered and left of the steps, in order."""
    seen: list[tuple[str, str]] = []
    files = {str(LIFECYCLE / file): file for file, _ in STEPS}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "return") and frame.f_code.co_filename in files:
            step = STEPS.get((files[frame.f_code.co_filename], frame.f_code.co_name))
            if step is not None:
                seen.append((event, step))

    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def test_every_step_is_entered_once_per_phase(life: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["evermix"])
    with watched() as seen:
        run(Recipe.model_validate(content))
    entered = [step for event, step in seen if event == "call"]
    trunk, branch, judged = ["train", "train"], ["train"], ["result of the phase", "score"]
    decision = ["decide", "evidence", "conclude"]
    compared = entered[entered.index("result") :].count("score")  # read again, for paired comparisons
    assert (
        [step for step in entered if step != "arm"]
        == [
            "context",
            *trunk,  # to where the branch leaves it, and to the end
            *branch,
            *judged,  # the first phase has one domain: nothing to decide
            *decision,
            *trunk,
            *branch,
            *judged,
            *decision,
            *trunk[:1],  # nothing goes on from the last phase
            *branch,
            *judged,
            "result",
            *["score"] * compared,
        ]
    )
    depth = list[str]()
    for event, step in seen:
        if event == "call":
            assert step not in depth or step == "arm", f"{step} is entered from within itself"
            depth.append(step)
        else:
            assert depth.pop() == step
    assert depth == []
