# SPDX-License-Identifier: Apache-2.0
"""A step of the site's build: formulas become MathML, which browsers draw by themselves, without a script."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_BLOCK = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replace what pymdownx.arithmatex has marked."""
    content = _BLOCK.sub(lambda match: convert(html.unescape(match[1]).strip(), display="block"), content)
    return _INLINE.sub(lambda match: convert(html.unescape(match[1]).strip()), content)
