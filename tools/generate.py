"""Write what follows from the repository's address: each chapter's badge and setup cell, and the README's links.

The address stands once, in `_config.yml` (`repository: url`). A fork changes that line and runs `make generate`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SETUP = (
    '"google.colab" in str(get_ipython()) and get_ipython().system("pip install --quiet --no-deps git+{url}");'
    "  # fmt: skip"
)
COLAB = "https://colab.research.google.com/github/{slug}/blob/{branch}/notebooks/{name}"


def address() -> tuple[str, str, str]:
    """Return the repository's url, its OWNER/NAME and its branch, as `_config.yml` has them."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    url = repository["url"].rstrip("/")
    return url, "/".join(url.split("/")[-2:]), repository["branch"]


def generated_cells(name: str) -> list[dict]:
    """Return the two cells that stand after a chapter's title: the badge and the setup line."""
    url, slug, branch = address()
    badge = f"[▶ Open this chapter in Google Colab]({COLAB.format(slug=slug, branch=branch, name=name)})"
    setup = SETUP.format(url=url)
    return [
        {"cell_type": "markdown", "id": "badge", "metadata": {}, "source": [badge]},
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "setup",
            "metadata": {"tags": ["remove-cell"]},
            "outputs": [],
            "source": [setup],
        },
    ]


def with_generated_cells(notebook: dict, name: str) -> dict:
    """Return the notebook with its generated cells in place, second and third."""
    own = [cell for cell in notebook["cells"] if cell.get("id") not in {"badge", "setup"}]
    return notebook | {"cells": own[:1] + generated_cells(name) + own[1:]}


def with_generated_section(text: str) -> str:
    """Return the README with what depends on the address: the Colab links and the line that installs the library."""
    url, slug, branch = address()
    chapters = [json.loads(path.read_text())["cells"][0]["source"][0].strip("# \n") for path in CHAPTERS]
    links = "\n".join(
        f"- [{title}]({COLAB.format(slug=slug, branch=branch, name=path.name)})"
        for title, path in zip(chapters, CHAPTERS)
    )
    section = (
        f"In Google Colab, nothing to install; each chapter's first cell brings the library:\n\n{links}\n\n"
        f"The library alone:\n\n```bash\npip install git+{url}\n```\n"
    )
    return re.sub(
        r"(<!-- generated.*?-->\n).*?(<!-- end)", lambda found: found[1] + section + found[2], text, flags=re.S
    )


def main() -> None:
    readme = ROOT / "README.md"
    readme.write_text(with_generated_section(readme.read_text()))
    for path in CHAPTERS:
        notebook = with_generated_cells(json.loads(path.read_text()), path.name)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        print(f"{path.relative_to(ROOT)}: badge and setup cell written", file=sys.stderr)


if __name__ == "__main__":
    main()
