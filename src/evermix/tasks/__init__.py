"""Tasks: metrics beyond held-out loss, as bits per byte of gold answers and accuracy of choices."""

from evermix.tasks.answer import AnswerTask
from evermix.tasks.base import MetricInfo, Score, Task, score_tasks
from evermix.tasks.choice import ChoiceTask
from evermix.tasks.opening import open_tasks

__all__ = ["AnswerTask", "ChoiceTask", "MetricInfo", "Score", "Task", "open_tasks", "score_tasks"]
