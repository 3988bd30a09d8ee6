"""Pictures and class maps: Shapes, CamVid, a folder of your own; the classes of ADE20K and Cityscapes."""

from segformer_edu.data.camvid import CamVid
from segformer_edu.data.classes import ADE20K, CITYSCAPES, ClassList, class_list
from segformer_edu.data.pairs import VOID, Folder, PairedPictures
from segformer_edu.data.pictures import normalize, photograph
from segformer_edu.data.shapes import Shapes
from segformer_edu.data.transforms import Augmentation

__all__ = [
    "ADE20K",
    "CITYSCAPES",
    "VOID",
    "Augmentation",
    "CamVid",
    "ClassList",
    "Folder",
    "PairedPictures",
    "Shapes",
    "class_list",
    "normalize",
    "photograph",
]
