"""Arms: every way to go through the stages of a life, over the same parts; one file each."""

from evermix.lifecycle.continual.arms.base import Arm, Outcome
from evermix.lifecycle.continual.arms.evermix import evermix
from evermix.lifecycle.continual.arms.fixed_replay import fixed_replay
from evermix.lifecycle.continual.arms.lora_merge import lora_merge
from evermix.lifecycle.continual.arms.mergemix import mergemix
from evermix.lifecycle.continual.arms.naive import naive
from evermix.lifecycle.continual.arms.natural import natural
from evermix.lifecycle.continual.arms.oracle import oracle
from evermix.lifecycle.continual.arms.proxy_swarm import proxy_swarm
from evermix.lifecycle.continual.arms.retrain import retrain
from evermix.lifecycle.continual.arms.uniform import uniform
from evermix.lifecycle.continual.arms.wsd_restart import wsd_restart

ARMS: dict[str, Arm] = {
    "evermix": evermix,
    "natural": natural,
    "uniform": uniform,
    "naive": naive,
    "fixed-replay": fixed_replay,
    "retrain": retrain,
    "mergemix": mergemix,
    "lora-merge": lora_merge,
    "wsd-restart": wsd_restart,
    "proxy-swarm": proxy_swarm,
    "oracle": oracle,
}

__all__ = ["ARMS", "Arm", "Outcome"]
