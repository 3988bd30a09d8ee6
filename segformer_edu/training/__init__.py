"""Training: losses, metrics, evaluation, and a loop that goes on where it stopped (chapter 7)."""

from segformer_edu.training.evaluation import evaluate
from segformer_edu.training.fit import choose_device, fit
from segformer_edu.training.losses import segmentation_loss
from segformer_edu.training.metrics import Scores, confusion_matrix
from segformer_edu.training.recipe import Recipe
from segformer_edu.training.run import History

__all__ = [
    "History",
    "Recipe",
    "Scores",
    "choose_device",
    "confusion_matrix",
    "evaluate",
    "fit",
    "segmentation_loss",
]
