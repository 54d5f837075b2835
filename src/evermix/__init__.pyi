"""The public names of evermix, one a line: `__init__.py` loads each from here when it is first used."""

from evermix import errors as errors
from evermix.constraints import Constraints as Constraints
from evermix.corpora import list_corpora as list_corpora
from evermix.deciding import design as design
from evermix.deciding import fit as fit
from evermix.deciding import propose as propose
from evermix.deciding import what_if as what_if
from evermix.domains import Domain as Domain
from evermix.domains import DomainSet as DomainSet
from evermix.draft import draft_recipe as draft_recipe
from evermix.draft import init as init
from evermix.errors import EvermixError as EvermixError
from evermix.laws import list_laws as list_laws
from evermix.lifecycle import Updating as Updating
from evermix.lifecycle import compare as compare
from evermix.lifecycle import plan as plan
from evermix.lifecycle import plan_update as plan_update
from evermix.lifecycle import run as run
from evermix.lifecycle import undo as undo
from evermix.lifecycle import update as update
from evermix.mixture import Mixture as Mixture
from evermix.objective import Objective as Objective
from evermix.observations import Observations as Observations
from evermix.observations import ReadOptions as ReadOptions
from evermix.observations import read_observations as read_observations
from evermix.observations.sample import example as example
from evermix.recipe import DomainRecipe as DomainRecipe
from evermix.recipe import Recipe as Recipe
from evermix.recipe import TextUpdate as TextUpdate
from evermix.recipe.decision import StudyRecipe as StudyRecipe
from evermix.reports import check as check
from evermix.reports import log as log
from evermix.reports import report as report
from evermix.reports import status as status
from evermix.results import RunResult as RunResult
from evermix.schedule import MixtureSchedule as MixtureSchedule
from evermix.study import Study as Study

__version__: str
