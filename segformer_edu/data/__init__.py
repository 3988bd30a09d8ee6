"""Pictures and class maps: Shapes, CamVid, a folder of your own."""

from segformer_edu.data.camvid import CamVid
from segformer_edu.data.pairs import VOID, Folder, PairedPictures
from segformer_edu.data.pictures import normalize, photograph
from segformer_edu.data.shapes import Shapes
from segformer_edu.data.transforms import Augmentation

__all__ = ["VOID", "Augmentation", "CamVid", "Folder", "PairedPictures", "Shapes", "normalize", "photograph"]
