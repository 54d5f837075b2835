"""Tasks: metrics beyond held-out loss, as bits per byte of gold answers, accuracy of choices and of written answers."""

from evermix.tasks.answer import AnswerTask
from evermix.tasks.base import MetricInfo, Score, Task, score_tasks
from evermix.tasks.choice import ChoiceTask
from evermix.tasks.exact import ExactTask
from evermix.tasks.generation import Generation, greedy_answers
from evermix.tasks.opening import open_tasks
from evermix.tasks.scorer import ScorerTask, load_scorer

__all__ = [
    "AnswerTask",
    "ChoiceTask",
    "ExactTask",
    "Generation",
    "MetricInfo",
    "Score",
    "ScorerTask",
    "Task",
    "greedy_answers",
    "load_scorer",
    "open_tasks",
    "score_tasks",
]
