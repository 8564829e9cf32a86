"""The form of a graph for an engine.

An engine fuses patterns. Which of several equal ways to write attention it fuses, how many kernels
and bytes a frame costs, was found by compiling them all: ``benchmarks/tensorrt_forms.py`` repeats
that, docs/tensorrt.md has its table, and `edgevit.engines.ENGINES` its outcome.
"""

from __future__ import annotations

from edgevit.engines import CPU_FORMS, ENGINES
from edgevit.graphform import Form, Layout

__all__ = ["CPU", "Form", "Layout", "form_for"]

CPU = Form()


def form_for(engine: str, precision: str) -> Form:
    """The form that ``engine`` runs fastest for ``precision``: fp32, fp16, int8 or mixed.

    That of a CPU for an engine which is not in the table, such as ``""``, which stands for none in particular.
    """
    forms = ENGINES[engine].forms if engine in ENGINES else CPU_FORMS
    return forms.of(precision)
