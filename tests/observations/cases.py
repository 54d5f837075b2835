"""Small swarms, each with one thing to say about it: an error, something left out, or a finding."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from evermix.observations import ReadOptions

RATIOS = "run,web,code\na,0.5,0.5\nb,0.2,0.8\nc,0.9,0.1\n"
METRICS = "run,loss,bpb\na,3.1,0.9\nb,2.9,1.0\nc,3.4,0.8\n"


@dataclass(frozen=True)
class Case:
    """Files of the folder `swarm` in place of the sound ones (None: not there), and how to read them."""

    files: dict[str, str | bytes | None]
    options: ReadOptions = field(default_factory=ReadOptions)

    def write(self, folder: Path) -> None:
        """Write the folder."""
        folder.mkdir()
        for name, content in ({"ratios.csv": RATIOS, "metrics.csv": METRICS} | self.files).items():
            if content is not None:
                (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def ratios(*lines: str) -> Case:
    return Case({"ratios.csv": "\n".join(("run,web,code", *lines, ""))})


def metrics(*lines: str, header: str = "run,loss,bpb") -> Case:
    return Case({"metrics.csv": "\n".join((header, *lines, ""))})


B, C = "b,0.2,0.8", "c,0.9,0.1"
MB, MC = "b,2.9,1.0", "c,3.4,0.8"
WIDE = Case({"ratios.csv": None, "metrics.csv": None, "runs.csv": "run,x,y,z\na,1,2,3\nb,3,4,5\n"})
TOKENS = "token_counts:\n  web: 1000\n  code: 500\n"

ERRORS: dict[str, Case] = {
    "weights do not sum to 1": ratios("a,0.5,0.6", B, C),
    "weights are percentages": ratios("a,50,50", "b,20,80", C),
    "percent asked for, weights are shares": Case({}, ReadOptions(percent=True)),
    "a column among the weights is none": Case({"ratios.csv": "run,web,code,lr\na,0.5,0.5,0.1\nb,0.2,0.8,0.2\n"}),
    "negative weight": ratios("a,1.5,-0.5", B, C),
    "empty weight": ratios("a,1,", B, C),
    "NaN weight": ratios("a,1,nan", B, C),
    "infinite weight": ratios("a,0.5,inf", B, C),
    "text as weight": ratios("a,0.5,half", B, C),
    "boolean as weight": ratios("a,0,true", B, C),
    "percent sign": ratios("a,50%,50%", B, C),
    "comma as decimal point": Case({"ratios.csv": "run;web;code\na;0,5;0,5\nb;0.2;0.8\n"}),
    "text as metric": metrics("a,3.1,failed", MB, MC),
    "infinite metric": metrics("a,3.1,inf", MB, MC),
    "all metrics are constant": metrics("a,3.1,1", "b,3.1,1", "c,3.1,1"),
    "negative standard error": metrics("a,3.1,-0.1", "b,2.9,0.1", "c,3.4,0.1", header="run,loss,loss_stderr"),
    "missing standard error": metrics("a,3.1,", "b,2.9,0.1", "c,3.4,0.1", header="run,loss,loss_stderr"),
    "budget is not positive": Case({"ratios.csv": "run,web,code,n_tokens\na,0.5,0.5,0\nb,0.2,0.8,9\n"}),
    "column name twice": Case({"ratios.csv": "run,web,web\na,0.5,0.5\n"}),
    "domain name is malformed": Case({"ratios.csv": "run,web,web::code\na,0.5,0.5\nb,0.2,0.8\n"}),
    "ragged row": ratios("a,0.5,0.5,", B, C),
    "open quote": ratios('a,0.5,"0.5', B, C),
    "empty file": Case({"ratios.csv": ""}),
    "header only": ratios(),
    "one column": Case({"ratios.csv": "run web code\na 0.5 0.5\n"}),
    "not UTF-8": Case({"ratios.csv": RATIOS.replace("web", "café").encode("latin-1")}),
    "damaged gzip": Case({"ratios.csv": None, "ratios.csv.gz": b"\x1f\x8b\x08\x00"}),
    "not Parquet": Case({"ratios.csv": None, "ratios.parquet": b"PAR1"}),
    "not JSON": Case({"ratios.csv": None, "ratios.jsonl": '{"run": "a", "web": 1}\n{"run": \n'}),
    "JSON key twice": Case({"ratios.csv": None, "ratios.jsonl": '{"run": "a", "web": 1, "web": 0}\n'}),
    "run without an id": ratios(",0.5,0.5", B, C),
    "id twice with different values": ratios("a,0.5,0.5", B, "a,0.4,0.6"),
    "no run in common": metrics("x,3.1,0.9", "y,2.9,1.0"),
    "no column of ids in common": Case({"metrics.csv": METRICS.replace("run", "experiment")}),
    "seeds in one table only": Case({"ratios.csv": "run,seed,web,code\na,1,0.5,0.5\na,2,0.5,0.5\n"}),
    "domain without a token count": Case({"tokens.yaml": "token_counts:\n  web: 1000\n"}),
    "token count is no number": Case({"tokens.yaml": "token_counts:\n  web: 1000\n  code: many\n"}),
    "unknown layout key": Case({"layout.yaml": "maximize: [bpb]\n"}),
    "pattern without a match": Case({}, ReadOptions(maximise=("acc*",))),
    "several pairs of tables": Case({"test_mixture.csv": RATIOS, "test_loss.csv": METRICS}),
    "one table of the pair": Case({"metrics.csv": None}),
    "the other one": Case({"ratios.csv": None}),
    "no pair of tables": Case({"ratios.csv": None, "metrics.csv": None, "a.csv": RATIOS, "b.csv": METRICS}),
    "weights not found in one table": WIDE,
}

LEFT_OUT: dict[str, Case] = {
    "constant metric": metrics("a,3.1,1", "b,2.9,1", "c,3.4,1"),
    "metric without a value": metrics("a,3.1,", "b,2.9,", "c,3.4,"),
    "metric known for one run": metrics("a,3.1,0.9", "b,2.9,", "c,3.4,"),
    "metric to drop": Case({}, ReadOptions(drop=("bpb",))),
    "run in one table only": metrics("a,3.1,0.9", MB),
    "run without any metric": metrics("a,,", MB, MC),
    "unfinished run": metrics("a,3.1,0.9,crashed", f"{MB},finished", f"{MC},finished", header="run,loss,bpb,State"),
    "row that repeats a run": ratios("a,0.5,0.5", B, C, "a,0.50,0.5"),
    "empty row": ratios("a,0.5,0.5", B, C, ",,"),
    "column about runs": Case({"ratios.csv": "index,run,web,code\n0,a,0.5,0.5\n1,b,0.2,0.8\n"}),
    "column without numbers": Case({"ratios.csv": "run,web,code,machine\na,0.5,0.5,m1\nb,0.2,0.8,m2\n"}),
    "token count of another domain": Case({"tokens.yaml": TOKENS + "  books: 9\n"}),
}

FINDINGS: dict[str, Case] = {
    "columns": Case({}),
    "rounded weights": Case({"ratios.csv": "run,web,code,math\na,0.333,0.333,0.333\nb,0.2,0.3,0.5\n"}),
    "missing cells": metrics("a,3.1,0.9", "b,2.9,null", "c,3.4,0.8"),
    "never sampled": Case({"ratios.csv": "run,web,code,math\na,0.5,0.5,0\nb,0.2,0.8,0\nc,0.9,0.1,0\n"}),
    "too few runs": ratios("a,0.5,0.5", B),
    "replicates": ratios("a,0.5,0.5", B, "c,0.2,0.8"),
    "direction": Case({"metrics.csv": METRICS.replace("bpb", "arc_acc")}),
}
