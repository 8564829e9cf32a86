"""The inference engines and what decides about a model for each: data, which asks for no engine's package.

A row of `ENGINES` is all that compressing, pruning, comparing and deploying need to know of an engine;
`edgevit.engine.backend` loads its code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from edgevit.errors import ConfigError, did_you_mean
from edgevit.graphform import Form, Forms

CPU_MULTIPLE = 16
"""INT8 channels that the smallest vector register of a CPU in use holds, NEON's."""
CPU_FORMS = Forms()


@dataclass(frozen=True, kw_only=True)
class Int8Attention:
    """What INT8 attention an engine fuses into one kernel: with both products in INT8, and of these sizes only.

    Any other costs it more than attention in floating point does.
    """

    head_dims: tuple[int, ...]
    tokens: int
    """At most; of the whole sequence, whatever a last block keeps of it."""


@dataclass(frozen=True, kw_only=True)
class EngineTraits:
    """One inference engine, as far as it can be told without its package."""

    backend: str
    """Its `edgevit.engine.base.Backend`, as ``module:class``."""
    title: str
    """Its maker's name for it, in messages."""
    processor: Literal["cpu", "gpu", "npu"]
    """What computes. A CPU's engine runs on every machine on which it is installed, and stands in for others there."""
    devices: tuple[str, ...] = ()
    """Kinds of devices that ``--device`` may choose, the one that it takes by itself first; empty if it has but one. Such a
    backend is an `edgevit.engine.base.OnDevices`. Those behind the first compute in FP16 what is not INT8."""
    ahead_of_time: bool = False
    """Compiled where it runs, once, and kept in the bundle: what was compiled belongs to one device and one version. Such a
    backend is an `edgevit.engine.builder.Builder`. False: it compiles in about a second, at every start."""
    modules: tuple[str, ...]
    """Python modules that running it imports, its own first."""
    extra: str
    """edgevit's extra that brings what of this pip can install."""
    versioned: tuple[str, ...] = ()
    """Distributions whose versions a bundle's provenance records."""
    multiple: int = CPU_MULTIPLE
    """INT8 channels are packed by this many, so pruning leaves widths that are multiples of it."""
    forms: Forms = CPU_FORMS
    """How graphs for it are written: the dtype beside INT8, scales included, the layout of attention, the batch."""
    int8_attention: Int8Attention | None = None
    """None: INT8 products of attention are worth the same whatever their sizes."""
    exact_fp32: bool = True
    """Whether it multiplies float32 in float32; else in TF32 or FP16, which no longer gives torch's values to 60 dB."""
    int8_needs_vnni: bool = False
    """Whether, on x86 processors without VNNI, it multiplies INT8's values in FP32, which is right and no faster than FP32."""
    unfused_primes: bool = False
    """Whether it leaves attention of a prime number of tokens unfused where threads outnumber heads."""
    lists_kernels: bool = False
    """Whether its builder lists the kernels it chose, as `edgevit.plan` reads them: then fusion is checked, and times on a
    board are estimated by a roofline, on any machine that compiles."""


_TENSORRT = EngineTraits(
    backend="edgevit.engine.tensorrt:TensorRt",
    title="TensorRT",
    processor="gpu",
    ahead_of_time=True,
    modules=("tensorrt", "pycuda"),
    extra="jetson",
    multiple=32,  # kCHW32
    forms=Forms(
        # rank3 compiles to the same kernels; attention in four dimensions is what NVIDIA documents as fused.
        fp32=Form(dtype="fp32", attention="rank4", batch=1),
        fp16=Form(dtype="fp16", attention="rank3", joint_qkv=False, batch=1),  # rank 4 and a joint qkv cost 7 % more bytes
        int8=Form(dtype="fp16", attention="rank4", batch=1),
    ),
    int8_attention=Int8Attention(head_dims=(16, 32, 64), tokens=512),  # the documentation of 8.6 to 11; measured: RTX 1.7
    exact_fp32=False,
    lists_kernels=True,
)

ENGINES = {
    "openvino": EngineTraits(
        backend="edgevit.engine.openvino:OpenVino",
        title="OpenVINO",
        processor="cpu",
        devices=("CPU", "GPU", "NPU"),
        modules=("openvino",),
        extra="cpu",
        versioned=("openvino",),
        int8_needs_vnni=True,
        unfused_primes=True,
    ),
    "onnxruntime": EngineTraits(
        backend="edgevit.engine.onnxruntime:OnnxRuntime",
        title="ONNX Runtime",
        processor="cpu",
        modules=("onnxruntime",),
        extra="cpu",
        versioned=("onnxruntime",),
    ),
    "tensorrt": _TENSORRT,
    "tensorrt_rtx": replace(_TENSORRT, backend="edgevit.engine.tensorrt:TensorRtRtx", modules=("tensorrt_rtx", "pycuda")),
}
"""By name, as targets, manifests and ``--engine`` have it."""


def traits_of(engine: str) -> EngineTraits:
    """Those of the engine called ``engine``. Raises ConfigError for an unknown one."""
    if engine not in ENGINES:
        msg = f"unknown engine {engine!r}. {did_you_mean(engine, ENGINES)}"
        raise ConfigError(msg)
    return ENGINES[engine]


def runs_on(engine: str, processor: str) -> bool:
    """Whether the engine called ``engine`` is known, and computes on ``processor``: cpu, gpu or npu."""
    return engine in ENGINES and ENGINES[engine].processor == processor
