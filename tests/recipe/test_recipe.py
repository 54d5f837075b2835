"""Recipes: what is read, and errors that name file, line and key."""

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import RecipeError
from evermix.files import placed
from evermix.ledger import Project
from evermix.recipe import Recipe, StudyRecipe, TextUpdate, parse_amount
from evermix.recipe.parts import absolute

GOOD = """\
project: runs/x
domains:
  - name: a
    files: a.jsonl
  - name: b
    files: [b/*.txt]
training:
  tokens: 1.5M
"""


def load(folder: Path, text: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.load(path)


def test_good_recipe(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert recipe.training.tokens == 1_500_000
    assert recipe.domains[0].files == ("a.jsonl",)
    assert recipe.base == tmp_path.resolve()
    assert recipe.project_folder == tmp_path / "runs/x"


def test_fingerprint_ignores_the_project_folder(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert load(tmp_path, GOOD.replace("runs/x", "runs/y")).fingerprint() == recipe.fingerprint()
    assert load(tmp_path, GOOD + "seed: 1\n").fingerprint() != recipe.fingerprint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "sead: 1\n", r"r\.yaml:9: sead: unknown key. Hint: allowed: project, method, seed"),
        (GOOD + "  batch: 3\n", r"r\.yaml:9: training\.batch: unknown key. Hint: allowed: tokens, batch_sequences"),
        (GOOD.replace("1.5M", "many"), r"r\.yaml:8: training\.tokens: must be an amount .*got 'many'"),
        (GOOD.replace("1.5M", "-5"), r"r\.yaml:8: training\.tokens: .*greater than 0"),
        (GOOD.replace("1.5M", ".nan"), r"r\.yaml:8: training\.tokens: "),
        (GOOD.replace("name: b", "name: a"), r"r\.yaml:5: domains\.1\.name: .*'a' is given twice"),
        (GOOD.replace("    files: a.jsonl\n", ""), r"r\.yaml:3: domains\.0: must have exactly one of files"),
        (GOOD.replace("project: runs/x\n", ""), r"r\.yaml:1: project: required key is missing"),
        (GOOD + "seed: 1\nseed: 2\n", r"r\.yaml:10: seed: a key must be given once"),
        (GOOD + "objective: {weights: {a: -1}}\n", r"r\.yaml:9: objective\.weights\.a: .*greater than or equal to 0"),
        (GOOD + "objective: {weights: {a: .nan}}\n", r"r\.yaml:9: objective\.weights\.a: .*finite number"),
        (GOOD + "objective: {weights: {a: 0}}\n", "at least one weight must be positive"),
        (GOOD + "objective: {weights: {c: 1}}\n", r"r\.yaml:9: .*unknown domain 'c' \(known: a, b\)"),
        (GOOD + "constraints: {fixed: {a: 0.7, b: 0.6}}\n", r"fixed shares must sum to at most 1 .*1\.3"),
        (GOOD + "start: {a: 0.7, b: 0.6}\n", r"the shares must sum to 1 .*1\.3"),
        (GOOD + "decision: {at: [0.5, 0.2]}\n", r"r\.yaml:9: decision\.at: .*they must increase \(at: \[0\.5, 0\.2\]"),
        (GOOD + "decision: {at: [0.2, 0.2]}\n", r"r\.yaml:9: decision\.at: .*they must increase \(at: \[0\.2, 0\.2\]"),
        (GOOD + "decision: {at: []}\n", r"r\.yaml:9: decision\.at: there must be decision points"),
        (
            GOOD + "decision: {experiments: {segments: 10}}\n",
            r"r\.yaml:9: decision\.experiments\.segments: must be a mul",
        ),
        (
            GOOD + "decision: {experiments: {levels: [1, 1]}}\n",
            r"r\.yaml:9: decision\.experiments\.levels: levels must",
        ),
        (GOOD + "arms: [evermix, evermix]\n", "arms must be unique"),
        ("- a\n", "must be a mapping of keys, got 'list'"),
        ("a: [\n", r"r\.yaml:2: the text must be valid YAML"),
        (GOOD + "start: {no: 0.5, a: 0.5}\n", r"yaml:9: .*reads no as true or false. Hint: quote the name: 'no'"),
        (GOOD + "start:\n  a: .5\n  2024: .5\n", r"yaml:11: .*reads 2024 as a number. Hint: quote the name: '2024'"),
        (GOOD + "constraints: {caps: {010: 0.5}}\n", r"yaml:9: .*reads 010 as a number. Hint: quote the name: '010'"),
        (GOOD + "constraints: {groups: {~: {members: [a]}}}\n", r"reads ~ as nothing. Hint: quote the name: '~'"),
        (GOOD + "decision: {compare: {x: {2024-01-01: 1}}}\n", "a date. Hint: quote the name: '2024-01-01'"),
        (GOOD + "constraints: {fixed: {1.50: 0.5}}\n", "reads 1.50 as a number. Hint: quote the name: '1.50'"),
        (GOOD + "constraints: {fixed: {[a]: 0.5}}\n", "a key must be a name, not a list"),
        (GOOD.replace("name: b", "name: off"), r"yaml:5: domains\.1\.name: .*quote it if it is a name: 'off'"),
        (GOOD.replace("name: b", "name: 2024"), r"yaml:5: domains\.1\.name: .*quote it if it is a name: '2024'"),
        (GOOD + "seed: 010\n", "yaml:9: YAML reads 010 as 8"),
        (GOOD + "decision: {at: [1:30]}\n", "yaml:9: YAML reads 1:30 as 90"),
        (GOOD + "phases: [{name: x, tokens: 20,000}]\n", "yaml:9: .*20,000 is no number. Hint: write 20000"),
        (GOOD + "phases: [{name: x, tokens: 1,500,000, remove: [a]}]\n", "1,500,000 is no number. Hint: write 1500000"),
        (GOOD.replace("1.5M", "1,500"), r"yaml:8: training\.tokens: must be an amount .*without commas"),
        (GOOD.replace("1.5M", "1.5.2"), r"yaml:8: training\.tokens: must be an amount"),
        (GOOD + 'start: {"\\ud83d": 1}\n', "yaml:9: half a surrogate pair is no character"),
        ("a: &a [*a]\n", "yaml:1: an alias .* must not stand within what it repeats"),
    ],
)
def test_errors_name_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("repeat", ["[{}]", "{{<<: [{}]}}", "{{a: [{}]}}"])
def test_aliases_cannot_grow_without_end(tmp_path: Path, repeat: str) -> None:
    """A thousand characters that stand for 9^12 values are refused where that many would begin."""
    levels = [f"  - &a{k} {repeat.format(', '.join([f'*a{k - 1}'] * 9))}\n" for k in range(1, 13)]
    with pytest.raises(RecipeError, match=r"r\.yaml:\d+: aliases .* must not repeat the text into more than"):
        load(tmp_path, GOOD + "x:\n  - &a0 {k: 1}\n" + "".join(levels))


def test_what_an_alias_repeats_is_there(tmp_path: Path) -> None:
    text = GOOD + "constraints: {caps: &shares {a: 0.5}, floors: {<<: *shares, b: 0.1}}\n"
    assert load(tmp_path, text).constraints.floors == {"a": 0.5, "b": 0.1}


def test_names_meet_however_they_are_spelt(tmp_path: Path) -> None:
    """Composed and decomposed letters (NFC, NFD) are one name; an emoji may be written as JSON escapes it."""
    for spelt in ("caf\u00e9", "cafe\u0301"):
        text = GOOD.replace("name: b", "name: caf\u00e9") + f"start: {{a: 0.5, {spelt}: 0.5}}\n"
        assert load(tmp_path, text).start == {"a": 0.5, "caf\u00e9": 0.5}
    emoji = GOOD.replace("runs/x", '"runs/\\ud83d\\ude00"')
    assert load(tmp_path, emoji).project == "runs/\N{GRINNING FACE}"


def test_baselines_are_given_equal_compute_unless_told_otherwise(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    without = recipe.with_arms(equal_compute=False)
    assert (recipe.equal_compute, without.equal_compute) == (True, False)
    assert (without.arms, recipe.with_arms().equal_compute) == (recipe.arms, True)
    assert recipe.fingerprint() != without.fingerprint()


def test_secrets_are_used_but_neither_kept_nor_shown(tmp_path: Path) -> None:
    secret = GOOD.replace("files: a.jsonl", "dataset: {path: 'https://me:s3cret@host.example/x', token: s3cret}")
    recipe = load(tmp_path, secret)
    assert (recipe.domains[0].dataset or {})["token"] == "s3cret"
    assert recipe.with_arms(["uniform"]).domains == recipe.domains
    project = Project(tmp_path / "p")
    project.ledger.append("recipe", recipe.fingerprint(), recipe.model_dump(mode="json"))
    project.ledger.append("source", "a", {"place": recipe.model_dump(mode="python")["domains"][0]["dataset"]})
    assert all(b"s3cret" not in file.read_bytes() for file in (tmp_path / "p").iterdir())
    for shown in (repr(recipe), str(recipe), recipe.model_dump_json(), str(recipe.domains)):
        assert "s3cret" not in shown
    for broken in ("    max_bytes: many\n", "    files: x\n"):
        with pytest.raises(RecipeError) as caught:
            load(tmp_path, secret.replace("  - name: b", broken + "  - name: b"))
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    for other in ("other", "$HF_TOKEN"):
        assert load(tmp_path, secret.replace("token: s3cret", f"token: {other}")).domains != recipe.domains
    assert load(tmp_path, secret.replace("s3cret", "other")).fingerprint() == recipe.fingerprint()


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must exist"):
        Recipe.load(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="not a folder"):
        Recipe.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("project: Bücher".encode("latin-1"))
    with pytest.raises(RecipeError, match="must be UTF-8"):
        Recipe.load(tmp_path / "latin.yaml")


@given(st.integers(1, 10**15))
def test_amounts_pass_through(value: int) -> None:
    assert parse_amount(value) == parse_amount(str(value)) == parse_amount(f"{value:_}") == value


@pytest.mark.parametrize(
    ("text", "value"), [("250k", 250_000), ("1.5M", 1_500_000), ("20B", 2 * 10**10), ("1e3", 1000)]
)
def test_amounts(text: str, value: int) -> None:
    assert parse_amount(text) == value


SWARM = GOOD + "method: olmix\narms: []\n"
TASK = "tasks: [{name: qa, file: qa.jsonl, kind: choice, weight: 3}, {name: seen, file: s.jsonl, role: held-out}]\n"
HELDOUT = {"a": "a", "b": "b (2)"}


def asked(folder: Path, text: str) -> StudyRecipe:
    return load(folder, text).study_recipe(10**6, HELDOUT, {"qa": "qa:accuracy"}, ["qa:accuracy"])


def test_both_methods_ask_for_the_same(tmp_path: Path) -> None:
    """Switching the method changes neither unit nor weights nor rules."""
    same = "objective: {weights: {a: 2, b: 1}}\nconstraints: {caps: {a: 0.5}}\ndecision: {prior: uniform, kl: 0.3}\n"
    probes, swarm = load(tmp_path, GOOD + same), load(tmp_path, SWARM + same)
    for part in ("objective", "constraints", "decision"):
        assert getattr(probes, part) == getattr(swarm, part)
    study = asked(tmp_path, SWARM + same)
    assert (study.objective.quantity, study.prior, study.kl, study.tokens) == ("perplexity", "uniform", 0.3, 10**6)
    assert study.objective.weights == {"a": 2, "b (2)": 1}
    assert study.constraints.caps == {"a": 0.5}


@pytest.mark.parametrize(
    ("text", "weights", "quantity"),
    [
        ("", {"a": 1, "b (2)": 1}, "perplexity"),
        (TASK, {"a": 1, "b (2)": 1}, "perplexity"),
        (TASK + "decision: {by: tasks}\n", {"qa": 3}, "metric"),
        (TASK + "decision: {by: accuracy}\n", {"qa:accuracy": 3}, "metric"),
        (TASK + "decision: {by: tasks}\nobjective: {weights: {qa: 1, a: 2}}\n", {"qa": 1, "a": 2}, "metric"),
        (TASK + "decision: {by: tasks}\nobjective: {weights: {b: 2}}\n", {"qa": 3}, "metric"),
        ("objective: {quantity: bits_per_byte}\n", {"a": 1, "b (2)": 1}, "bits_per_byte"),
    ],
)
def test_what_a_swarm_counts(tmp_path: Path, text: str, weights: dict[str, float], quantity: str) -> None:
    study = asked(tmp_path, SWARM + text)
    assert study.objective.weights == weights
    assert study.objective.quantity == quantity
    assert study.objective.maximised(["qa:accuracy", "a"]) == {"qa:accuracy"}


def test_groups_of_domains_are_means_of_means(tmp_path: Path) -> None:
    text = GOOD + "  batch_sequences: 4\nobjective: {groups: {one: [a], two: [b]}, group_weights: {one: 3}}\n"
    assert load(tmp_path, text).domain_weights == {"a": 0.75, "b": 0.25}
    assert load(tmp_path, GOOD).domain_weights is None


def test_a_table_of_runs_is_taken_as_it_was_measured() -> None:
    assert StudyRecipe().objective.quantity == "metric"
    assert StudyRecipe.model_validate({"objective": {"weights": {"x": 1}}}).objective.quantity == "metric"
    given = StudyRecipe.model_validate({"objective": {"quantity": "perplexity"}})
    assert given.objective.quantity == "perplexity"
    assert StudyRecipe.model_validate(given.model_dump(exclude_unset=True)) == given
    with pytest.raises(ValueError, match="no start"):
        StudyRecipe(prior="start")


def test_a_swarm_is_pulled_towards_the_start_if_it_says_so(tmp_path: Path) -> None:
    assert asked(tmp_path, SWARM + "start: uniform\ndecision: {prior: start}\n").prior == "uniform"
    weights = "start: weights\nobjective: {weights: {a: 1, b: 3}, quantity: loss_nats}\n"
    weighed = asked(tmp_path, SWARM + weights + "decision: {prior: start}\n")
    assert weighed.prior == {"a": 0.25, "b": 0.75}
    assert asked(tmp_path, SWARM + "decision: {prior: {a: 0.1, b: 0.9}}\n").prior == {"a": 0.1, "b": 0.9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "decision: {law: power-link}\n", r"decision\.law: belongs to decisions by a swarm"),
        (GOOD.replace("1.5M", "4096"), r"training\.tokens: a run must have at least 2 steps: 16 rows in batches of 16"),
        (
            GOOD.replace("1.5M", "12288") + "decision: {mode: probe-law}\n",
            r"training\.tokens: .* least 4 steps of 4096 to",
        ),
        (GOOD.replace("1.5M", "49152"), r"training\.tokens: must pay for at least 13 steps of 4096 tokens, .*for 12\)"),
        (
            GOOD + "decision: {at: [0.5, 0.501], mode: gradient}\n",
            r"decision\.at: must fall on different steps before the",
        ),
        (GOOD + "decision: {at: [0.5, 0.501]}\n", r"decision\.at: an experiment of 8 segments must have as many steps"),
        (GOOD + "decision: {at: [0.9]}\n", r"decision\.at: must fall before the learning rate decays"),
        (GOOD + "decision: {resamples: 9}\n", r"decision\.resamples: belongs to decisions by a swarm"),
        (GOOD + "decision: {mode: gradient, guards: [{}]}\n", r"decision\.guards: mode gradient has no law"),
        (GOOD + "decision: {guards: [{reference: best observed}]}\n", r"decision\.guards: best observed is a run"),
        (SWARM + "phases: [{name: one}]\nretention: {max_rise: 0.1}\n", r"retention: belongs to decisions by probes"),
        (GOOD + "objective: {unit: deviations}\n", r"objective\.unit: belongs to decisions by a swarm"),
        (GOOD + "decision: {kl: auto}\n", r"decision\.kl: auto is chosen by cross-fitting"),
        (GOOD + "decision: {prior: swarm}\n", r"decision\.prior: swarm belongs to method olmix"),
        (GOOD + "decision: {prior: {a: 0.5}}\n", r"decision\.prior: the shares must sum to 1"),
        (GOOD + "decision: {prior: {c: 1}}\n", r"unknown domain 'c'"),
        (GOOD + "objective: {quantity: metric}\n", r"objective\.quantity: held-out text has a unit"),
        (GOOD + "objective: {groups: {one: [a]}}\n", r"objective\.groups: metric 'b' must be in a group"),
        (GOOD + "objective: {groups: {one: [a, c]}}\n", r"unknown domain 'c'"),
        (GOOD + "constraints: {groups: {x: {members: [a, c]}}}\n", r"groups\.x\.members\.1: unknown domain 'c'"),
        (SWARM + "decision: {compare: {mine: {a: 0.5, c: 0.5}}}\n", r"compare\.mine\.c: unknown domain 'c'"),
        (SWARM + "decision: {guards: [{reference: {c: 1}}]}\n", r"guards\.0\.reference\.c: unknown domain 'c'"),
        (SWARM + "swarm: {design: {caps: {c: 0.1}}}\n", r"swarm\.design\.caps\.c: unknown domain 'c'"),
        (SWARM + "decision: {mode: gradient}\n", r"decision\.mode: belongs to decisions by probes"),
        (SWARM + "decision: {probes: {rank: 4}}\n", r"decision\.probes: belongs to decisions by probes"),
        (SWARM + "decision: {kl: 0.1, kl_weight: 0.05}\n", r"decision\.kl_weight: give kl or kl_weight, not both"),
        (SWARM + "decision: {by: tasks}\n", r"decision\.by: tasks needs a task of role fit"),
        (SWARM + TASK + "objective: {weights: {qa: 1}}\n", r"'qa' is a task: it counts with method olmix and decision"),
        (SWARM + "study: {law: power-link}\n", "study: unknown key"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize("place", ["~/x", "$HOME/x", "${HOME}/x", "home/x", "../{}/home/x", "/{}"])
def test_every_path_starts_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """`~`, variables and relative paths mean the same wherever a path is given, and nothing is called `~`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir("/")
    place = place.replace("{}", str(tmp_path / "home/x")[1:] if place == "/{}" else tmp_path.name)
    recipe = load(tmp_path, GOOD.replace("runs/x", place))
    assert recipe.project_folder.absolute() == tmp_path / "home/x"
    assert os.path.normpath(placed(place, recipe.base)) == str(tmp_path / "home/x")
    (found,) = absolute([place], tmp_path) or []
    assert found == str(tmp_path / "home/x")
    written = tmp_path / "u.yaml"
    written.write_text(f'add: [{{name: a, files: "{place}"}}]\n')
    assert TextUpdate.load(written).add[0].files == (str(tmp_path / "home/x"),)


@pytest.mark.parametrize("place", ["$NO_SUCH_VARIABLE/x", "a/${NO_SUCH_VARIABLE}", "~nobody-here/x"])
def test_a_path_that_leads_nowhere(tmp_path: Path, place: str) -> None:
    with pytest.raises(RecipeError, match=r"must be set|must name a user"):
        load(tmp_path, GOOD.replace("runs/x", place)).project_folder  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_a_file_whose_name_has_a_dollar_is_itself(tmp_path: Path) -> None:
    (tmp_path / "$HOME.txt").write_text("x")
    assert placed("$HOME.txt", tmp_path) == tmp_path / "$HOME.txt"
