"""Pages can be read: code boxes are narrow enough, and links lead somewhere."""

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = 70
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "packages/*/README.md", "apps/*/README.md")
    for page in ROOT.glob(pattern)
)
SITE = ROOT / "docs"
NOT_CODE = ("math",)
LINK = re.compile(r"(?<!\\)\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")


def page_id(page):
    return str(page.relative_to(ROOT))


def parts(text):
    """Yield (line number, language of the code box or None, line) of each line but the fences."""
    language = None
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"\s*```(\w*)", line)
        if fence:
            language = None if language is not None else fence[1]
        else:
            yield number, language, line


def wide_lines(text):
    """Return the numbers of lines in code boxes that are wider than the page."""
    return [
        number
        for number, language, line in parts(text)
        if language is not None and language not in NOT_CODE and len(line) > COLUMNS
    ]


def prose(text):
    """Return the text without code boxes and code spans."""
    return re.sub(r"`[^`]*`", "", "\n".join(line for _, language, line in parts(text) if language is None))


def anchor(heading):
    """Return the anchor that the site gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("\\", "")
    ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def anchors(text):
    lines = [line for _, language, line in parts(text) if language is None]
    return {anchor(line.lstrip("#")) for line in lines if re.match(r"#+ ", line)}


def broken_links(page, text):
    """Return the links of a page to files, folders or headings that are not there."""
    broken = []
    for link in LINK.findall(prose(text)):
        path, _, heading = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(link)
        elif page.is_relative_to(SITE) and not target.is_relative_to(SITE):
            broken.append(f"{link}: not part of the site")
        elif heading and target.suffix == ".md" and heading not in anchors(target.read_text(encoding="utf-8")):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_code_boxes_are_narrow(page):
    assert wide_lines(page.read_text(encoding="utf-8")) == [], f"lines of code over {COLUMNS} columns"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](nowhere.md)", ["nowhere.md"]),
        ("[a](index.md#no-such-heading)", ["index.md#no-such-heading"]),
        ("![a](assets/none.png)", ["assets/none.png"]),
        ("[a](../README.md)", ["../README.md: not part of the site"]),
        ("[a](index.md) [b](https://example.org/x) `[c](nowhere.md)`", []),
        ("# A heading, `code`\n\n[a](#a-heading-code)", []),
    ],
)
def test_a_broken_link_is_found(text, found):
    page = SITE / "glossary.md"
    if "#a-heading" in text:
        assert anchors(text) == {"a-heading-code"}
    else:
        assert broken_links(page, text) == found


def test_a_wide_line_is_found():
    wide = "x" * (COLUMNS + 1)
    assert wide_lines(f"{wide}\n```sh\n{wide}\n```\n```math\n{wide}\n```\n{wide}") == [3]


def test_every_page_of_the_site_is_in_its_contents():
    contents = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'"([\w/-]+\.md)"', contents))
    there = {str(page.relative_to(SITE)) for page in SITE.rglob("*.md")}
    assert {page for page in there if not page.startswith("results/")} <= listed
    assert listed <= there


def test_every_page_of_results_is_linked_from_their_index():
    linked = set(LINK.findall((SITE / "results" / "index.md").read_text(encoding="utf-8")))
    assert {page.name for page in (SITE / "results").glob("*.md")} - {"index.md"} <= linked
