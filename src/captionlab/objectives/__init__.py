"""What training minimises."""

from captionlab.objectives.cross_entropy import CrossEntropy
from captionlab.objectives.protocol import Objective

__all__ = ["CrossEntropy", "Objective"]
