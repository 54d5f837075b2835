"""Arms: every way to go through the phases of a run, over the same parts; one class and one line here each."""

from evermix.lifecycle.arms.base import Arm, PhaseOutcome
from evermix.lifecycle.arms.decided import BestRunArm, Evermix, MergeMix, Oracle, ProxySwarm
from evermix.lifecycle.arms.lora_merge import LoraMerge
from evermix.lifecycle.arms.mixtures import FixedReplay, Naive, Natural, Retrain, Uniform, Weights

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Evermix(),
        Natural(),
        Uniform(),
        Weights(),
        BestRunArm(),
        Naive(),
        FixedReplay(),
        Retrain(),
        MergeMix(),
        LoraMerge(),
        ProxySwarm(),
        Oracle(),
    )
}

__all__ = ["ARMS", "Arm", "PhaseOutcome"]
