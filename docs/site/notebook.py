"""A Jupyter notebook as a page: its text, its code, and what was printed and drawn when it last ran."""

from __future__ import annotations

import json
from typing import Any


def page_of_notebook(text: str) -> str:
    """Markdown of the notebook whose file holds ``text`` (nbformat 4)."""
    return "\n\n".join(part for cell in json.loads(text)["cells"] for part in _cell(cell))


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *(_output(output) for output in cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    """HTML where there is some, then a picture, then text: what Jupyter shows."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"
