"""The models that come with the library: trained here, from scratch, with a card each."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"


def shipped() -> dict[str, Path]:
    """Return the files of the models that come with the library, by their names."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def model_card(name: str) -> str:
    """Return what is to be known of a model that comes with the library: data, recipe, figures, limits, licence.

    Raises:
        ValueError: no such model.

    Source: Mitchell et al., "Model cards for model reporting", 2019; chapter 11.
    """
    if name not in shipped():
        raise ValueError(f"There is no model {name!r} in the library; expected one of {', '.join(shipped())}.")
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")
