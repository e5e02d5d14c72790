"""Names from outside in Markdown: they are shown as they are, and format or run nothing."""

import re

# Punctuation that begins Markdown or HTML inside a line; "." and "-" do only where a line begins.
_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~$])")
_BLANKS = re.compile(r"\s+")


def as_text(name: str) -> str:
    r"""A text within a line of Markdown, whatever it holds.

    >>> print(as_text("forest_1 <script>"))
    forest\_1 \<script\>
    """
    # "://" makes links by itself in GitHub's Markdown.
    escaped = _SPECIAL.sub(r"\\\1", _BLANKS.sub(" ", name))
    return escaped.replace("://", r"\://")


def as_code(name: str) -> str:
    """A text as code within a line: its fence is longer than any run of backticks inside."""
    name = _BLANKS.sub(" ", name)
    if "`" not in name:
        return f"`{name}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", name))))
    return f"{fence} {name} {fence}"
