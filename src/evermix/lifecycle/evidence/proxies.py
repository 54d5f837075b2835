"""Proxies as jobs, their compute, and the record of a decision from them: what every swarm shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evermix.deciding.proposing import AssessedProposal
from evermix.errors import ProjectError
from evermix.executors import Failure, Job, JobEvent, LocalProcesses
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.base import DecisionRequest, finite, positive
from evermix.lifecycle.state import ModelState
from evermix.measure.swarm import JOB, TRIAL, Proxy, Swarm
from evermix.mixture import Mixture
from evermix.results import Compute, Decision
from evermix.results.swarm import LeftOutRun, ProxyCompute, SwarmRecord


def swarm_decision(
    context: RunContext,
    state: ModelState,
    request: DecisionRequest,
    found: AssessedProposal,
    record: SwarmRecord,
    compute: Compute,
    metric_names: Mapping[str, str],
) -> Decision:
    """The record of a proposal from runs."""
    fitted, proposal = found.fitted, found.proposal
    predicted = dict(zip(fitted.observations.metrics, fitted.predict(found.mixture).tolist(), strict=True))
    shares = Mixture.from_dict(request.components.components, found.mixture.as_dict)
    losses = {name: predicted[metric] for name, metric in metric_names.items() if metric in predicted}
    rows = {row.name: row for row in found.comparison.rows}
    return Decision(
        **request.describe(context, state, shares),
        evidence="swarm",
        mode=fitted.law_name,
        prior=positive(fitted.prior.mixture),
        kl_weight=found.kl.weight,
        kl_source=found.kl.source,
        binding=proposal.binding,
        status=proposal.status,
        predicted_loss_nats={name: losses[name] for name in request.phase.domains if name in losses},
        predicted_objective={
            ("chosen" if name == "proposal" else name): finite(row.objective_value) for name, row in rows.items()
        },
        assessment_absent=found.assessment_absent,
        proposal=found.view,
        swarm=record,
        compute=compute,
    )


def swarm_record(
    swarm: Swarm, n_tokens: int, here: ProxyCompute, everywhere: ProxyCompute, left_out: Sequence[LeftOutRun]
) -> SwarmRecord:
    """What a decision keeps of its proxies; `n_tokens` are those that the mixture is for."""
    size = swarm.size()
    return SwarmRecord(
        rung=swarm.training.rung,
        non_embedding=size.non_embedding,
        output_projection=size.output_projection,
        steps=swarm.steps,
        tokens_per_proxy=swarm.n_tokens,
        simulated_epoching=swarm.store.train_limits is not None,
        metrics=tuple(name for metric in swarm.metrics for name in metric.names),
        this_version=here,
        all_versions=everywhere,
        left_out=tuple(left_out),
        n_tokens=n_tokens,
    )


def as_compute(proxies: ProxyCompute) -> Compute:
    return Compute.of("proxies", proxies.flops, proxies.n_tokens, proxies.seconds)


def run_jobs(
    context: RunContext,
    jobs: Sequence[Job],
    label: str,
    part: str,
    n_tokens: int = 0,
    finished: Callable[[Job], None] | None = None,
    retries: int = 1,
) -> list[Failure]:
    """Run jobs on the processes of this machine, as many at once as the recipe says."""
    executor = LocalProcesses(context.recipe.swarm.workers, retries, logs=context.project.folder / "logs")
    with context.reporter.part(part, label, len(jobs), n_tokens, unit="runs") as report:
        return executor.run(jobs, _Counter(report, {}, finished))


def try_tasks(context: RunContext, swarm: Swarm, jobs: Sequence[Job]) -> None:
    """Score an untrained proxy on the swarm's tasks, where there are any and a job is still to be done.

    Raises:
        ProjectError: if that fails; no proxy has been trained for it then.
    """
    if not swarm.tasks or all(job.finished for job in jobs):
        return
    trial = Job("untrained-proxy", TRIAL, swarm.arguments, swarm.tasks_tried.marker)
    if trial.finished:
        return
    for failure in run_jobs(context, [trial], "trying the tasks on an untrained proxy", "swarm", retries=0):
        raise ProjectError(
            f"{context.project.folder}: every task must be scored on an untrained proxy before others are trained",
            received=failure.reason,
            hint=f"mend or leave out the task and run again; the whole trace: {failure.log}",
        )


@dataclass
class _Counter:
    """Follows jobs: the bar counts finished ones and the finished parts of those at work."""

    report: Any
    parts: dict[str, float]
    finished: Callable[[Job], None] | None = None
    done: int = 0

    def __call__(self, event: JobEvent) -> None:
        if event.kind in ("finished", "skipped"):
            self.parts.pop(event.job.key, None)
            self.done += 1
            if self.finished is not None:
                self.finished(event.job)
        elif event.kind == "progress" and event.total:
            self.parts[event.job.key] = event.done / event.total
        elif event.kind in ("retried", "failed"):
            self.parts.pop(event.job.key, None)
        self.report(self.done + sum(self.parts.values()))


def all_failed(context: RunContext, failures: Sequence[Failure]) -> ProjectError:
    return ProjectError(
        f"{context.project.folder}: at least one proxy must finish; all {len(failures)} failed",
        received=failures[0].reason,
        hint=f"the whole trace: {failures[0].log}",
    )


def left_out_runs(failures: Sequence[Failure]) -> list[LeftOutRun]:
    return [LeftOutRun(run_id=f.job.key, reason=f.reason, log=str(f.log)) for f in failures]


def proxy_job(run_id: str, proxy: Proxy) -> Job:
    """What is damaged of a proxy is said here, where somebody reads it, and done again by the worker."""
    if not proxy.measurement.is_whole():
        proxy.weights.is_whole()
    return Job(run_id, JOB, proxy.arguments, proxy.marker)


def distinct_jobs(jobs: Sequence[Job]) -> list[Job]:
    """One job per marker: the same mixture asked for twice is one proxy."""
    return list({str(job.marker): job for job in reversed(jobs)}.values())[::-1]
