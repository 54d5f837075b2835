"""The recipe: one YAML file that says everything about a project, as frozen pydantic models."""

from evermix.recipe.decision import (
    ConstraintRecipe,
    DecisionRecipe,
    GroupRecipe,
    GuardRecipe,
    ObjectiveRecipe,
    ProbeRecipe,
    ProposalRecipe,
    StudyRecipe,
)
from evermix.recipe.measured import DesignRecipe, LevelRecipe, ProxyTraining, SwarmRecipe, TaskRecipe
from evermix.recipe.parts import (
    CorpusRecipe,
    DomainRecipe,
    ModelRecipe,
    TextUpdate,
    TokenizerRecipe,
    TrainingRecipe,
    parse_amount,
)
from evermix.recipe.whole import Recipe

__all__ = [
    "ConstraintRecipe",
    "CorpusRecipe",
    "DecisionRecipe",
    "DesignRecipe",
    "DomainRecipe",
    "GroupRecipe",
    "GuardRecipe",
    "LevelRecipe",
    "ModelRecipe",
    "ObjectiveRecipe",
    "ProbeRecipe",
    "ProposalRecipe",
    "ProxyTraining",
    "Recipe",
    "StudyRecipe",
    "SwarmRecipe",
    "TaskRecipe",
    "TextUpdate",
    "TokenizerRecipe",
    "TrainingRecipe",
    "parse_amount",
]
