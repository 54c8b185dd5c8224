"""What training minimises."""

from captionlab.objectives.cross_entropy import CrossEntropy
from captionlab.objectives.protocol import Mean, Objective, num_targets, total
from captionlab.objectives.scheduled_sampling import ScheduledSampling
from captionlab.objectives.self_critical import CaptionReward, SelfCritical

__all__ = [
    "CaptionReward",
    "CrossEntropy",
    "Mean",
    "Objective",
    "ScheduledSampling",
    "SelfCritical",
    "num_targets",
    "total",
]
