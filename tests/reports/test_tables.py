import io

from rich.console import Console

from evermix.reports.plan import print_plan
from evermix.reports.tables import binding_reasons, print_corpora, print_result

from .synthetic_result import NAMES, result


def printed(write, *arguments: object, width: int = 160) -> str:  # type: ignore[no-untyped-def]
    stream = io.StringIO()
    write(*arguments, Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


def test_result_shows_every_domain_mean_and_overhead() -> None:
    text = printed(print_result, result())
    for name in NAMES:
        assert name in text
    (mean,) = [line for line in text.splitlines() if line.strip().startswith("mean of the 9 in the objective")]
    assert mean.split()[-3:] == ["18.88", "17.91", "17.61"]
    assert "+11.1%" in text
    assert "mode probe-law, KL weight 0.05" in text


def test_narrow_terminal_loses_no_number() -> None:
    text = printed(print_result, result(), width=80)
    assert "…" not in text
    assert "18.88" in text


def test_partial_result() -> None:
    assert "Not finished" in printed(print_result, {"arms": {}, "decisions": [{"mixture": {"a": 1.0}}]})


def test_binding_in_every_form() -> None:
    given = {"binding": ["web: upper (epochs)", "legal", {"domain": "code", "reason": "cap"}]}
    assert binding_reasons(given) == {"web": "upper (epochs)", "legal": "bound", "code": "cap"}


def test_plan() -> None:
    plan = {"domains": ["a", "b"], "total_tokens": 1234567, "flops_probes": 2e12, "rows": [{"name": "a", "share": 0.5}]}
    text = printed(print_plan, plan)
    assert "a, b" in text
    assert "1,234,567" in text
    assert "2 TFLOP" in text
    assert "50.0%" in text


def test_corpora() -> None:
    text = printed(print_corpora, [{"name": "legal", "licence": "[MIT]"}])
    assert "legal" in text
    assert "[MIT]" in text
