"""Files that hold pictures, and those that Pillow does not read or that would give something else than was meant."""

from __future__ import annotations

PICTURES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".npy",
)  # fmt: skip
"""Endings of the files that a folder's pictures and class maps are looked for in; .npy holds an array of NumPy."""
LOSSY = (".jpg", ".jpeg", ".jfif", ".heic", ".heif")
"""Endings of files that change numbers: no class map can be kept in them."""
CONVERT = "save it as JPEG or PNG with another program"
HEIC = (
    "pip install pillow-heif, then in Python: import pillow_heif; pillow_heif.register_heif_opener(). "
    "Or save it as JPEG (on an iPhone: Settings, Camera, Formats, Most Compatible)"
)
RAW_ENDINGS = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
RAW = "the sensor's own numbers, of which Pillow reads at most a small preview; develop it to JPEG, PNG or TIFF"
FOREIGN = {
    **dict.fromkeys((".heic", ".heif", ".hif"), ("HEIC", HEIC)),
    **dict.fromkeys(RAW_ENDINGS, ("camera raw", RAW)),
    ".jxl": ("JPEG XL", CONVERT),
    ".svg": ("SVG, which is drawn with lines", CONVERT),
    ".pdf": ("PDF", CONVERT),
    ".dcm": ("DICOM", "read it with pydicom, scale it to [0, 1], and give the array"),
    ".nii": ("NIfTI", "read it with nibabel, scale it to [0, 1], and give an array (H, W)"),
    ".exr": ("OpenEXR", "read it with another library, scale it to [0, 1], and give the array"),
    ".hdr": ("Radiance HDR", "read it with another library, scale it to [0, 1], and give the array"),
    **dict.fromkeys((".npz", ".mat", ".h5"), ("a file of arrays", "read the array, and give it, or save it as .npy")),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), ("a video", "take pictures out of it, with ffmpeg say")),
}  # fmt: skip
"""For the endings of formats that Pillow does not read: what it is, and what to do."""
SIGNATURES = (
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), ".heic"),
    (4, (b"ftypcrx",), ".cr3"),
    (4, (b"ftypisom", b"ftypmp4", b"ftypqt", b"ftypM4V", b"ftypavc1"), ".mp4"),
    (0, (b"\xff\x0a", b"\x00\x00\x00\x0cJXL "), ".jxl"),
    (0, (b"%PDF",), ".pdf"),
    (0, (b"<svg", b"<?xml"), ".svg"),
    (128, (b"DICM",), ".dcm"),
    (0, (b"\x76\x2f\x31\x01",), ".exr"),
    (0, (b"#?RADIANCE", b"#?RGBE"), ".hdr"),
    (0, (b"\x89HDF", b"MATLAB", b"PK\x03\x04"), ".npz"),
    (0, (b"\x1aE\xdf\xa3",), ".mkv"),
)  # fmt: skip
"""How such files begin: at which byte, with what, and the ending that is usual for them."""


def foreign(name: str, head: bytes = b"") -> str:
    """Say what kind of file it is that Pillow does not read, and what to do; "" if nothing tells.

    Args:
        name: of the file; its ending decides for camera raw, which begins as a TIFF does.
        head: the file's first bytes, at least 132 of them.
    """
    ending = next((kind for at, begins, kind in SIGNATURES if head[at:].startswith(begins)), None)
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    known = FOREIGN.get(ending or suffix)
    return f"it is {known[0]}, a format that is not supported here; {known[1]}" if known else ""
