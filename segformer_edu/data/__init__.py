"""Pictures and class maps: Shapes, CamVid, a folder of your own."""

from segformer_edu.data.pictures import photograph

__all__ = ["photograph"]
