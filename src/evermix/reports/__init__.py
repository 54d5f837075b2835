"""What happened, what it cost, why this mixture: tables, plots, and one self-contained HTML page.

What others call: `report`, `status`, `log` and `check` of a project folder, `print_status` and its like of what they
return; `run_tables.print_result` of a `RunResult`, `proposal.print_proposal` of a `ProposalView`, `plans.print_plan` of
a plan, `answer.comparison` and `pareto.pareto_files` of a `RunResult`.
"""

from evermix.reports.checking import CheckReport, check, print_check
from evermix.reports.log import log, print_log
from evermix.reports.page import report
from evermix.reports.progress import Status, print_status, status

__all__ = [
    "CheckReport",
    "Status",
    "check",
    "log",
    "print_check",
    "print_log",
    "print_status",
    "report",
    "status",
]
