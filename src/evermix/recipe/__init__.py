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
from evermix.recipe.whole import Recipe

__all__ = [
    "ConstraintRecipe",
    "CorpusRecipe",
    "DecisionRecipe",
    "DomainRecipe",
    "ModelRecipe",
    "ObjectiveRecipe",
    "ProbeRecipe",
    "Recipe",
    "TokenizerRecipe",
    "TrainingRecipe",
    "parse_amount",
]
