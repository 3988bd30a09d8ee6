"""Pictures and class maps: Shapes, CamVid, a folder of your own; the classes of ADE20K and Cityscapes."""

from segformer_edu.data.camvid import CamVid
from segformer_edu.data.classes import ADE20K, CAMVID32, CITYSCAPES, VOC, ClassList, class_list
from segformer_edu.data.crops import Crops
from segformer_edu.data.folder import Folder
from segformer_edu.data.labels import VOID
from segformer_edu.data.memory import InMemory, class_counts
from segformer_edu.data.pairs import PairedPictures
from segformer_edu.data.pictures import as_image, normalize, photograph, statistics
from segformer_edu.data.report import Report, examine
from segformer_edu.data.shapes import Shapes
from segformer_edu.data.splits import hold_out
from segformer_edu.data.transforms import Augmentation

__all__ = [
    "ADE20K",
    "CAMVID32",
    "CITYSCAPES",
    "VOC",
    "VOID",
    "Augmentation",
    "CamVid",
    "ClassList",
    "Crops",
    "Folder",
    "InMemory",
    "PairedPictures",
    "Report",
    "Shapes",
    "as_image",
    "class_counts",
    "class_list",
    "examine",
    "hold_out",
    "normalize",
    "photograph",
    "statistics",
]
