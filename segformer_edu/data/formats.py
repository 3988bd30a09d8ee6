"""Files that hold pictures, and those that Pillow does not read or that would give something else than was meant."""

from __future__ import annotations

from PIL import Image

PICTURES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".npy",
)  # fmt: skip
"""Endings of the files that a folder's pictures and class maps are looked for in; .npy holds an array of NumPy."""
ALSO_READ = (".jfif", ".tga", ".jp2", ".avif", ".heic", ".heif", ".hif", ".jxl")
"""Endings that are taken too where Pillow reads them; of some only with a package such as pillow-heif."""
LOSSY = (".jpg", ".jpeg", ".jfif", ".heic", ".heif", ".hif", ".avif")
"""Endings of files that change numbers: no class map can be kept in them."""
HEAD = 512  # bytes that tell a format
CONVERT = "save it as JPEG or PNG with another program"
HEIC = (
    "pip install pillow-heif, then in Python: import pillow_heif; pillow_heif.register_heif_opener(). "
    "Or save it as JPEG (on an iPhone: Settings, Camera, Formats, Most Compatible)"
)
RAW_ENDINGS = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
RAW = (
    "it holds the sensor's own numbers, of which Pillow reads at most a small preview; develop it to JPEG, PNG or TIFF"
)
FOREIGN = {
    **dict.fromkeys((".heic", ".heif", ".hif"), ("HEIC", HEIC)),
    **dict.fromkeys(RAW_ENDINGS, ("camera raw", RAW)),
    ".jxl": ("JPEG XL", CONVERT),
    ".avif": ("AVIF", f"Pillow 11.3 and later read it; or {CONVERT}"),
    ".svg": ("SVG, which is drawn with lines", CONVERT),
    ".eps": ("EPS, which is drawn with lines", CONVERT),
    ".pdf": ("PDF", CONVERT),
    ".xcf": ("GIMP's own", CONVERT),
    ".dcm": ("DICOM", "read it with pydicom, scale it to [0, 1], and give the array"),
    ".npy": ("an array of NumPy's", "give the array, numpy.load(file), or a path that ends in .npy"),
    ".html": ("a web page or an answer of a server", "fetch the picture itself again"),
    ".lfs": ("Git LFS's note of where the file lies", "git lfs pull fetches it"),
    ".gz": ("compressed as a whole", "unpack it first"),
    ".nii": ("NIfTI", "read it with nibabel, scale it to [0, 1], and give an array (H, W)"),
    ".exr": ("OpenEXR", "read it with another library, scale it to [0, 1], and give the array"),
    ".hdr": ("Radiance HDR", "read it with another library, scale it to [0, 1], and give the array"),
    **dict.fromkeys((".npz", ".mat", ".h5"), ("a file of arrays", "read the array, and give it, or save it as .npy")),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), ("a video", "take pictures out of it, with ffmpeg say")),
}  # fmt: skip
"""For the endings of formats that Pillow does not read: what it is, and what to do."""
SIGNATURES = (
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), ".heic"),
    (4, (b"ftypavi",), ".avif"),
    (4, (b"ftypcrx",), ".cr3"),
    (4, (b"ftyp",), ".mp4"),
    (8, (b"AVI ",), ".avi"),
    (8, (b"CR\x02\0",), ".cr2"),
    (0, (b"FUJIFILMCCD-RAW",), ".raf"),
    (0, (b"IIRO", b"IIRS", b"MMOR"), ".orf"),
    (0, (b"IIU\0",), ".rw2"),
    (0, (b"\xff\x0a", b"\x00\x00\x00\x0cJXL "), ".jxl"),
    (0, (b"%PDF",), ".pdf"),
    (0, (b"%!PS",), ".eps"),
    (0, (b"gimp xcf",), ".xcf"),
    (128, (b"DICM",), ".dcm"),
    (0, (b"\x76\x2f\x31\x01",), ".exr"),
    (0, (b"#?RADIANCE", b"#?RGBE"), ".hdr"),
    (0, (b"\x93NUMPY",), ".npy"),
    (0, (b"\x89HDF", b"MATLAB", b"PK\x03\x04"), ".npz"),
    (0, (b"\x1aE\xdf\xa3",), ".mkv"),
    (0, (b"\x1f\x8b",), ".gz"),
    (0, (b"version https://git-lfs",), ".lfs"),
)  # fmt: skip
"""How such files begin: at which byte, with what, and the ending that is usual for them."""


def foreign(name: str, head: bytes = b"") -> str:
    """Say what kind of file it is that Pillow does not read, and what to do; "" if nothing tells.

    Args:
        name: of the file; its ending decides where the first bytes don't.
        head: the file's first bytes, at least 132 of them.
    """
    ending = next((kind for at, begins, kind in SIGNATURES if head[at:].startswith(begins)), None)
    if ending is None and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        ending = ".svg" if b"<svg" in head else ".html"
    ending = ending or ending_of(name)
    known = None if is_added(ending) else FOREIGN.get(ending)
    return f"it is {known[0]}, a format that is not supported here; {known[1]}" if known else ""


def ending_of(name: str) -> str:
    """Return the ending of a file's name in lower case, with its dot; "" if there is none."""
    return name[name.rfind(".") :].lower() if "." in name else ""


def is_picture(name: str) -> bool:
    """Say whether a file is to be taken for a picture or class map, by the ending of its name."""
    return ending_of(name) in PICTURES or is_added(ending_of(name))


def is_added(ending: str) -> bool:
    """Say whether an ending is that of a format which some installations of Pillow read, and this one does."""
    return ending in ALSO_READ and Image.registered_extensions().get(ending, "") in Image.OPEN
