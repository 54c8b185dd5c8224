"""What training minimises."""

from captionlab.objectives.cross_entropy import CrossEntropy
from captionlab.objectives.protocol import Objective
from captionlab.objectives.scheduled_sampling import ScheduledSampling
from captionlab.objectives.self_critical import CaptionReward, SelfCritical

__all__ = ["CaptionReward", "CrossEntropy", "Objective", "ScheduledSampling", "SelfCritical"]
