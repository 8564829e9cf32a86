"""A bundle's session: on the engine that was compiled into it, or on one that compiles at every start; and the check of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from edgevit.bundle import ENGINE, MODEL, SAMPLES, Bundle
from edgevit.cache import Cache, Kind
from edgevit.engine import CPU_ENGINES, backend, builder, open_session, require_devices, runs_here
from edgevit.engine.base import Session
from edgevit.engine.check import REPEATS, Verdict, check_session, first_wrong, floor_of
from edgevit.engine.samples import Samples, load_samples
from edgevit.engine.trusted import wrong_everywhere
from edgevit.engines import traits_of
from edgevit.errors import ConfigError, EngineError
from edgevit.onnxfile import allows_bf16, without_bf16
from edgevit.shipped import shipped_names
from edgevit.target import load_target


def session_of(
    bundle: Bundle, engine: str | None = None, *, threads: int | None = None, graph: bool = True, device: str | None = None,
    batch: int = 1,
) -> Session:  # fmt: skip
    """A session for ``bundle`` on its own engine, or on the one called ``engine``, that computes what torch computed.

    That is checked on the bundle's samples, once for a bundle, an engine and a machine (`edgevit.engine.of_bundle.checked`).
    A CPU bundle whose own engine is not installed here (an Arm board has no OpenVINO), or is found wrong, gets the next one
    that is, and the session's ``warnings`` say so; an engine that was asked for is never replaced. ``graph`` lets a GPU replay
    a CUDA graph where that is faster (`edgevit.engine.base.Session.graph` tells). ``device`` is one of those that an engine lets
    choose, such as OpenVINO's GPU; no other engine stands in for it. With ``batch``, an inference is best given so many frames.

    Raises ConfigError for an engine, device or batch that the bundle cannot have, EngineError if its own cannot run here, was
    not compiled here or is wrong, MissingPackageError if no engine is installed; each says what to do.
    """
    own = bundle.manifest.engine
    if not traits_of(engine or own).ahead_of_time:
        names = [engine] if engine else engines_in_order(own)
        if device is not None:
            names = [name for name in names if traits_of(name).devices] or names[:1]
        session = _session_on(names, bundle, threads, device, batch)
        if own not in names and not engine:
            session.warn(f"built for {own}, which is not installed here: runs on {session.engine}")
        return session
    name = engine or own
    if device is not None:
        require_devices(name, device)
    if batch > 1:
        msg = f"--batch {batch}: {traits_of(name).title} is compiled for one frame at a time. Leave it out"
        raise ConfigError(msg)
    if name != own:
        msg = f"{bundle.path}: built for {own}. For {name} build the model with --target {_targets_of(name)}"
        raise ConfigError(msg)
    if not runs_here(name):
        msg = (
            f"{bundle.path}: {name} cannot run here: {backend(name).lacking()}. Run it on its device; or here, on the "
            f"processor, with --engine {load_target('cpu').engine()}"
        )
        raise EngineError(msg)
    if ENGINE not in bundle.manifest.files:
        msg = f"{bundle.path}: not compiled yet. On the device that runs it: edgevit compile {bundle.path}"
        raise EngineError(msg)
    backend(name).check_stamp((bundle.manifest.compiled or {}).get("engine") or {})
    session = builder(name).load(bundle.read(ENGINE), graph=graph)
    if wrong := checked(bundle, name, session, threads=threads).wrong:
        session.close()
        again = f"Compile it again (edgevit compile {bundle.path}): that tries more careful forms of the graph, too"
        msg = f"{bundle.path}: {wrong}. {again}"
        raise EngineError(msg)
    return session


def engines_in_order(own: str) -> list[str]:
    """Engines for a bundle that was built for ``own``: that alone if it is no CPU engine or none is installed; else that, this
    machine's, then any, as far as they are installed.
    """
    if traits_of(own).ahead_of_time:
        return [own]
    names = dict.fromkeys((own, load_target("cpu").engine(), *CPU_ENGINES))
    return [name for name in names if runs_here(name)] or [own]


def _session_on(names: list[str], bundle: Bundle, threads: int | None, device: str | None, batch: int) -> Session:
    """A session on the first of the CPU engines called ``names`` that is right. Raises EngineError if none is."""
    model, failed = bundle.read(MODEL), list[str]()
    for name, bf16 in _ways(names, model, device):
        graph = model if bf16 else without_bf16(model)
        session = open_session(name, graph, threads=threads, device=device, batch=batch)
        wrong = checked(bundle, name, session, threads=threads, device=device, bf16=bf16).wrong
        if not wrong:
            if failed:
                session.warn(f"{'; '.join(failed)}. {name}{'' if bf16 else ' without bfloat16'} is taken instead")
            return session
        session.close()
        failed.append(wrong)
    msg = f"{bundle.path}: {wrong_everywhere(failed)}"
    raise EngineError(msg)


def _ways(names: list[str], model: bytes, device: str | None) -> Iterator[tuple[str, bool]]:
    """Each engine with the graph as it is, and where that lets it compute in bfloat16 here, without that behind it."""
    for name in names:
        yield name, True
        if allows_bf16(model) and backend(name, device).computes_bf16():
            yield name, False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What holding a session against a bundle's samples showed."""

    text: str
    """One line for people: how close, or why it was not checked."""
    wrong: str = ""
    """What is wrong, and where; empty if nothing is."""
    remembered: bool = False
    """Whether this was found earlier and looked up."""


SECONDS = 0.7  # for the check at a start
CHECK = Kind("engine-check", "edgevit.engine.check")
UNCHECKED = "this bundle carries no samples, so the engine is not checked against the model. Build it again to have it checked"


def checked(
    bundle: Bundle, name: str, session: Session, *, threads: int | None = None, device: str | None = None,
    cache: Cache | None = None, bf16: bool = True,
) -> Checked:  # fmt: skip
    """Hold ``session``, of ``bundle`` on the engine called ``name``, against the samples that the bundle carries.

    ``bf16`` is False for a session of the bundle's graph without leave to compute in bfloat16.
    The result is remembered in ``cache`` (the user's by default) for this bundle, engine version, processor and number of
    threads, so that a start costs nothing the second time. Raises BundleError for samples that are damaged.
    """
    files = bundle.manifest.files
    if SAMPLES not in files:
        return Checked(text=UNCHECKED)
    cache = Cache() if cache is None else cache
    key = {"files": [files[file].sha256 for file in (MODEL, SAMPLES, ENGINE) if file in files], "engine": session.engine,
           "device": session.device, "threads": session.threads} | ({} if bf16 else {"bf16": False}) \
           | ({} if session.batch == 1 else {"batch": session.batch})  # fmt: skip
    if (stored := cache.find(CHECK, **key)) is not None:
        return replace(Checked(**json.loads(stored)), remembered=True)
    found = _examined(bundle, name, session, threads, device, bf16=bf16)
    cache.store(CHECK, json.dumps(asdict(found)).encode(), **key)  # a board may be read-only: then every start is checked
    return found


def _examined(
    bundle: Bundle, name: str, session: Session, threads: int | None, device: str | None, *, bf16: bool
) -> Checked:  # fmt: skip
    samples, precision = _as_many_as_fit(load_samples(bundle.read(SAMPLES)), session), bundle.manifest.precision
    # Of the graph's form, as FP16 is FP16 on a CPU, too; and of the device, as FP32 is FP16 on a GPU.
    floor = min(floor_of(bundle.manifest.engine), floor_of(name, device))
    check, place = check_session(session, samples, floor), None
    if not check.passed:

        def opened(graph: bytes) -> Session:
            return open_session(name, graph, threads=threads, device=device)

        model = bundle.read(MODEL)
        place = first_wrong(opened, model if bf16 else without_bf16(model), samples, floor)
    verdict = Verdict(engine=session.engine, precision=precision, check=check, place=place)
    return Checked(text=str(verdict), wrong="" if verdict.passed else str(verdict))


def _as_many_as_fit(samples: Samples, session: Session) -> Samples:
    """The first of ``samples``, as many as `SECONDS` are enough for, and at least two: a start must not wait for a slow board."""
    session.infer(samples.frames[:1])
    start = time.perf_counter()
    session.infer(samples.frames[:1])
    count = max(2, int(SECONDS / REPEATS / max(time.perf_counter() - start, 1e-6)))
    streams = tuple(replace(stream, values=stream.values[:count]) for stream in samples.streams)
    return Samples(
        frames=samples.frames[:count], logits=samples.logits[:count], expected=samples.expected[:count], streams=streams
    )


def compiled_here(bundle: Bundle) -> bytes | None:
    """The bundle's compiled engine, if there is one that runs on this machine."""
    name = bundle.manifest.engine
    if ENGINE not in bundle.manifest.files or not runs_here(name):
        return None
    try:
        backend(name).check_stamp((bundle.manifest.compiled or {}).get("engine") or {})
    except EngineError:
        return None
    return bundle.read(ENGINE)


def _targets_of(engine: str) -> str:
    """Shipped targets whose bundles run on ``engine``, families before boards."""
    targets = [load_target(name) for name in shipped_names("targets")]
    fitting = [target for target in targets if engine in target.engines.values()]
    covered = {board for target in fitting for board in target.boards}
    return " or ".join(target.name for target in fitting if target.name not in covered)
