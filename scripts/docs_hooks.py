"""What MkDocs does to the pages besides: those that lie outside of docs/ become pages of the site as well.

Links are written so that they work where a repository is looked at. Here they are turned into links within
the site; files that are no pages are shown by their path.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "specs/ptychodus_api_spec.md": "contract.md",
}
"""Pages outside of docs/, and what they are called on the site."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links within the site."""
    sources = {name: source for source, name in OUTSIDE.items()}
    here = posixpath.dirname(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def within(match: re.Match[str]) -> str:
        picture, text, link = match.groups()
        path, hash_, anchor = link.partition("#")
        if re.match(r"\w+:", link) or not path:
            return match.group(0)
        target = posixpath.normpath(posixpath.join(here, path))
        name = OUTSIDE.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if name is None or files.get_file_from_path(name) is None:
            return f"{text} (`{target}`)"
        # of headings that are alike, MkDocs numbers the further ones in another way than repositories do
        anchor = re.sub(r"-(\d)$", r"_\1", anchor)
        return f"{picture}[{text}]({name}{hash_}{anchor})"

    return _LINK.sub(within, markdown)
