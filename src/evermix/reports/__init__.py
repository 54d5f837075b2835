"""What happened, what it cost, why this mixture: tables, plots, and one self-contained HTML page."""

from evermix.reports.html import write_report as report
from evermix.reports.log import read_log as log
from evermix.reports.progress import read_status as status

__all__ = ["log", "report", "status"]
