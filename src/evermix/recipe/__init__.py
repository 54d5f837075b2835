"""The recipe: one YAML file that says everything about a project, as frozen pydantic models."""

from evermix.recipe.parts import (
    ConstraintRecipe,
    CorpusRecipe,
    DecisionRecipe,
    DomainRecipe,
    ModelRecipe,
    ObjectiveRecipe,
    ProbeRecipe,
    TokenizerRecipe,
    TrainingRecipe,
    parse_amount,
)
from evermix.recipe.swarm import ProxyTraining, SwarmRecipe
from evermix.recipe.tasks import TaskRecipe
from evermix.recipe.text_update import TextUpdate
from evermix.recipe.whole import Recipe

__all__ = [
    "ConstraintRecipe",
    "CorpusRecipe",
    "DecisionRecipe",
    "DomainRecipe",
    "ModelRecipe",
    "ObjectiveRecipe",
    "ProbeRecipe",
    "ProxyTraining",
    "Recipe",
    "SwarmRecipe",
    "TaskRecipe",
    "TextUpdate",
    "TokenizerRecipe",
    "TrainingRecipe",
    "parse_amount",
]
