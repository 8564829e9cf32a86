"""Mutated inputs of every kind: each is refused in one line, or taken for what it is; never an internal error, a hang or a flood.

A few seconds a kind here; ``make fuzz`` goes on for an hour. What fails is made again by its number: see `Fuzz.seeds`.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.bundle import MANIFEST, MODEL, SIGNATURE, open_bundle, sign_bundle, write_bundle
from edgevit.cli import COMMANDS
from edgevit.deploy.answers import benchmark, compiled, doctor, parsed
from edgevit.deploy.facts import read_facts
from edgevit.errors import EdgevitError
from edgevit.images.dataset import load_images
from edgevit.measure.details import layers_of
from edgevit.signing import generate
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutate import NASTY, as_json, changed, damaged, deep
from tests.model import references as ref
from tests.model.test_checkpoint_settings import HF_CONFIG, PROCESSOR, folder
from tests.support import ROOT, picture

PASSWORD = "Tr0ub4dor"
EXPORTED = ROOT / "tests" / "model" / "fixtures" / "onnx" / "torchscript"
Writer = Callable[[Path], object]


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(bundle_path, tmp_path / "copy.edgevit"))


def looked_into(bundle: Path, chance: Random) -> list[object]:
    """A command that reads a bundle."""
    return chance.choice((
        ["inspect", bundle], ["inspect", bundle, "--json"], ["inspect", bundle, "--layers"], ["doctor", bundle, "--json"],
        ["run", bundle, "test://32x32?frames=1", "--headless"], ["service", bundle, "0", "--print"],
    ))  # fmt: skip


def test_manifest(fuzz: Fuzz, bundle: Path) -> None:
    path = bundle / MANIFEST
    good = json.loads(path.read_bytes())
    for chance in fuzz.seeds(60):
        path.write_bytes(as_json(changed(good, chance)) if chance.random() < 0.95 else deep(chance))
        fuzz.command(*looked_into(bundle, chance))


def test_zip(fuzz: Fuzz, bundle_path: Path, tmp_path: Path) -> None:
    opened, path = open_bundle(bundle_path), tmp_path / "b.zip"
    write_bundle(path, opened.manifest, {name: opened.read(name) for name in opened.manifest.files})
    good = path.read_bytes()
    for chance in fuzz.seeds(60):
        # The directory, at the end, is what a reader believes.
        at = chance.choice((0, len(good) - 2000))
        path.write_bytes(good[:at] + damaged(good[at:], chance))
        fuzz.command(*looked_into(path, chance))


def test_signature(fuzz: Fuzz, bundle: Path, tmp_path: Path) -> None:
    """No changed signature, key or manifest is taken."""
    pytest.importorskip("cryptography")
    public = generate(tmp_path / "maker")
    sign_bundle(bundle, tmp_path / "maker")
    files = (bundle / SIGNATURE, bundle / MANIFEST, public)
    good = {path: path.read_bytes() for path in files}
    for chance in fuzz.seeds(60):
        path = chance.choice(files)
        path.write_bytes(content := damaged(good[path], chance))
        outcome = fuzz.command("inspect", bundle, "--require-signature", public)
        # What is in front of and behind the lines of a PEM file means nothing.
        assert outcome.code or content == good[path] or path == public
        path.write_bytes(good[path])
    assert fuzz.command("inspect", bundle, "--require-signature", public).code == 0


def test_graph(fuzz: Fuzz, bundle: Path, tmp_path: Path) -> None:
    """Damaged before it was hashed: what a hostile maker would send."""
    manifest, path = json.loads((bundle / MANIFEST).read_bytes()), bundle / MODEL
    good, picture_path = path.read_bytes(), tmp_path / "p.png"
    picture_path.write_bytes(cv2.imencode(".png", picture("disc", 1))[1].tobytes())
    for chance in fuzz.seeds(40):
        content = damaged(good, chance)
        path.write_bytes(content)
        manifest["files"][MODEL] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        (bundle / MANIFEST).write_bytes(as_json(manifest))
        commands = (
            ["inspect", bundle, "--layers"], ["attention", bundle, picture_path, "-o", tmp_path / f"{chance.random()}.png"],
            ["run", bundle, "test://32x32?frames=1", "--headless"], ["profile", bundle, "test://32x32?frames=12", "--runs", 2],
        )  # fmt: skip
        fuzz.command(*chance.choice(commands))


def dry_run(model: Path, *options: object) -> list[object]:
    return ["build", model, "--dry-run", "--precision", "fp32", *options]


def test_safetensors(fuzz: Fuzz, checkpoint_path: Path, tmp_path: Path) -> None:
    good, path = checkpoint_path.read_bytes(), tmp_path / "m.safetensors"
    size = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + size])
    own = json.loads(header["__metadata__"]["edgevit"])
    for chance in fuzz.seeds(60):
        if chance.random() < 0.3:
            path.write_bytes(damaged(good[: 8 + size], chance) + good[8 + size :])
        else:
            metadata = {"__metadata__": {"edgevit": as_json(changed(own, chance)).decode()}}
            told = as_json(header | metadata if chance.random() < 0.8 else changed(header, chance))
            path.write_bytes(len(told).to_bytes(8, "little") + told + good[8 + size :])
        fuzz.command(*dry_run(path))


def test_exported_graph(fuzz: Fuzz, tmp_path: Path) -> None:
    good, path = (EXPORTED / "model.onnx").read_bytes(), tmp_path / "m.onnx"
    for chance in fuzz.seeds(40):
        graph = onnx.load_model_from_string(good)
        node, tensor = chance.choice(graph.graph.node), chance.choice(graph.graph.initializer)
        changes: tuple[Callable[[], Any], ...] = (
            lambda: setattr(node, "op_type", chance.choice(graph.graph.node).op_type),  # noqa: B023
            lambda: graph.graph.node.remove(node),  # noqa: B023
            lambda: node.input.extend(list(node.input)),  # noqa: B023
            lambda: node.attribute.extend(list(chance.choice(graph.graph.node).attribute)),  # noqa: B023
            lambda: tensor.dims.append(chance.choice((0, 1, -1, 1 << 40))),  # noqa: B023
            lambda: setattr(tensor, "data_type", chance.randrange(30)),  # noqa: B023
            lambda: tensor.external_data.add(key="location", value=chance.choice(("/etc/passwd", "..", "m.onnx"))),  # noqa: B023
        )
        chance.choice(changes)()
        content = graph.SerializeToString()
        path.write_bytes(content if chance.random() < 0.7 else damaged(content, chance))
        fuzz.command(*dry_run(path))


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions:UserWarning")
def test_torch_file(fuzz: Fuzz, checkpoint_path: Path, tmp_path: Path) -> None:
    from edgevit.model import load_checkpoint

    state = dict(load_checkpoint(checkpoint_path).model.state_dict())
    strange: tuple[Callable[[torch.Tensor], Any], ...] = (
        lambda value: torch.zeros(1).expand(3_000_000_000), lambda value: value.to("meta"), lambda value: value.to_sparse(),
        lambda value: value.to(torch.complex64), lambda value: value.double() * float("nan"), lambda value: {"a": [value]},
        lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8), lambda value: value.reshape(-1)[:0],
        lambda value: value.unsqueeze(0), lambda value: value.t() if value.ndim == 2 else value.flip(0), lambda value: None,
    )  # fmt: skip
    for chance in fuzz.seeds(40):
        key, path, content = chance.choice(sorted(state)), tmp_path / "m.pt", io.BytesIO()
        torch.save(state | {key: chance.choice(strange)(state[key])}, content)
        path.write_bytes(content.getvalue() if chance.random() < 0.6 else damaged(content.getvalue(), chance))
        fuzz.command(*dry_run(path, "--heads", 2))


def test_hugging_face(fuzz: Fuzz, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    model = folder(ref.randomise(ref.HfVit(), seed=0), tmp_path / "m", HF_CONFIG, PROCESSOR)
    for chance in fuzz.seeds(80):
        name, good = chance.choice((("config.json", HF_CONFIG), ("preprocessor_config.json", PROCESSOR)))
        (model / name).write_bytes(as_json(changed(good, chance)) if chance.random() < 0.95 else deep(chance))
        fuzz.command(*dry_run(model))
        (model / name).write_bytes(as_json(good))


def test_labels(fuzz: Fuzz, checkpoint_path: Path, tmp_path: Path) -> None:
    for chance in fuzz.seeds(40):
        path = tmp_path / chance.choice(("labels.txt", "labels.json"))
        good: Any = chance.choice((["a", "b", "c"], {"0": "a", "1": "b", "2": "c"}))
        text = chance.choice((as_json(changed(good, chance)), damaged(b"disc\nsquare\nstripes\n", chance), deep(chance)))
        path.write_bytes(text)
        fuzz.command(*dry_run(checkpoint_path, "--labels", path))


VALUES_OF_TOML = ("0", "-1", "nan", "inf", "1e999", '""', "[]", "{}", "true", "[[[]]]", '"\\u0000"', "9" * 5000, '"a"')


def test_toml(fuzz: Fuzz, checkpoint_path: Path, tmp_path: Path) -> None:
    for chance in fuzz.seeds(80):
        kind = chance.choice(("recipe", "target"))
        shipped = sorted((ROOT / {"recipe": "calibration", "target": "targets"}[kind]).glob("*.toml"))
        path, lines = tmp_path / "x.toml", chance.choice(shipped).read_text().splitlines()
        action = chance.random()
        if action < 0.5:  # another value
            at = chance.choice([i for i, line in enumerate(lines) if "=" in line])
            value = chance.choice(
                ("0", "-1", "nan", "inf", "1e999", '""', "[]", "{}", "true", "[[[]]]", '"\\u0000"', "9" * 5000, '"a"')
            )
            lines[at] = f"{lines[at].partition('=')[0]}= {value}"
        elif action < 0.6:
            lines.insert(chance.randrange(len(lines)), chance.choice((".".join("a" * 40_000) + " = 1", "a = " + "[" * 30_000)))
        content = "\n".join(lines).encode()
        path.write_bytes(content if action < 0.6 else damaged(content, chance))
        fuzz.command(*dry_run(checkpoint_path, f"--{kind}", path))


def test_npz(fuzz: Fuzz, tmp_path: Path) -> None:
    images = np.stack([cv2.resize(picture("disc", seed), (32, 32)) for seed in range(6)])
    for chance in fuzz.seeds(60):
        path, kind = tmp_path / "x.npz", chance.random()
        arrays: dict[str, Any] = {"images": images, "labels": np.arange(6) % 3, "classes": np.array(["a", "b", "c"])}
        if kind < 0.6:
            strange = (
                np.zeros(()), np.zeros(0), images.astype(float), images[0], np.array([{}], object), np.arange(6) * 10**12,
                np.array("x"), images[:, :0], np.array([None] * 6), -np.arange(6), np.array(["\x1b]0;a\x07"] * 3),
            )  # fmt: skip
            arrays[chance.choice(sorted(arrays))] = chance.choice(strange)
        np.savez(path, **arrays)
        if kind > 0.5:
            path.write_bytes(damaged(path.read_bytes(), chance))
        if kind > 0.9:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # zeros, which claim to be images
                archive.writestr(
                    "images.npy", b"\x93NUMPY\1\0v\0" + header((chance.choice((10**9, 10**6)), 32, 32, 3)) + bytes(10**6)
                )

        def read(path: Path = path) -> None:
            loaded = load_images(path)
            loaded.check()
            loaded.frame(0)

        fuzz.call(read, EdgevitError)


def header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return text.ljust(117).encode() + b"\n"


def test_images(fuzz: Fuzz, bundle_path: Path, tmp_path: Path) -> None:
    frame = cv2.resize(picture("stripes", 3), (200, 160))
    kinds = {suffix: cv2.imencode(suffix, frame)[1].tobytes() for suffix in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm")}
    for chance in fuzz.seeds(30):
        suffix, content = chance.choice(sorted(kinds.items()))
        (tmp_path / "pictures").mkdir(exist_ok=True)
        path = tmp_path / "pictures" / f"{chance.choice(('a', 'ä b', '=x', '-o'))}{suffix}"
        # The header says how large it is.
        path.write_bytes(damaged(content[:64], chance) + content[64:] if chance.random() < 0.6 else damaged(content, chance))
        fuzz.command("run", bundle_path, chance.choice((path, path.parent)), "--headless")
        path.unlink()


def test_report(fuzz: Fuzz, bundle_path: Path) -> None:
    good = json.loads((bundle_path / "report.json").read_bytes())
    for chance in fuzz.seeds(100):
        content = as_json(changed(good, chance)) if chance.random() < 0.9 else deep(chance)
        fuzz.call(lambda content=content: layers_of(content))  # type: ignore[misc]


def test_answers(fuzz: Fuzz) -> None:
    """What a host says, which is another machine."""
    finding = {"level": "ok", "topic": "a", "text": "b", "fix": None}
    answers = (
        (doctor, {"findings": [finding]}),
        (compiled, {"version": "1", "seconds": 2.0}),
        (benchmark, {"summary": {"fps": 3}}),
    )
    facts = b"folder=/home/a/edgevit\nmachine=aarch64\nfree_kb=1000\npython=3.10.12\ntools\nvenv\ncv2=4.8.0\n"
    for chance in fuzz.seeds(100):
        check, good = chance.choice(answers)
        text = as_json(changed(good, chance)) if chance.random() < 0.9 else deep(chance)
        fuzz.call(lambda text=text, check=check: parsed(text.decode(), check), ValueError)  # type: ignore[misc]
        said = damaged(facts, chance).decode(errors="replace")
        fuzz.call(lambda said=said: read_facts(said), ValueError)  # type: ignore[misc]


USERINFO = st.text(st.sampled_from("abz:/@#?%&=;'\" \\\n\t[]0"), max_size=6)
PLACES = st.sampled_from((
    "rtsp://{a}:{p}@127.0.0.1:1/{b}", "rtsp:/{a}:{p}@127.0.0.1:1", "http://{p}@127.0.0.1:1/{b}?token={p}", "{a}:{p}@127.0.0.1",
    "gst:rtspsrc location=rtsp://127.0.0.1:1 user-pw='{p}' ! {b}", "srt://127.0.0.1:1?passphrase={p}&{b}", "test://{a}:{p}@8x8?{b}",
    "rtsp://127.0.0.1:1/x?{b}&api_key={p}", "csi://{a}?password={p}", "usb://{b}?secret={p}", "{a}://{b}:{p}@[::1]:1",
))  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(place=PLACES, a=USERINFO, b=USERINFO)
def test_addresses(place: str, a: str, b: str, fuzz: Fuzz, fp32_bundle_path: Path) -> None:
    """No password is printed, whatever stands around it."""
    address = place.format(a=a, b=b, p=PASSWORD)
    outcome = fuzz.command("run", fp32_bundle_path, address, "--headless", "--limit", 1)
    assert PASSWORD not in outcome.stdout + outcome.stderr


VALUES = st.one_of(st.text(max_size=30), st.sampled_from([str(value) for value in NASTY if isinstance(value, str | int | float)]))


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_options(data: st.DataObject, fuzz: Fuzz, checkpoint_path: Path, fp32_bundle_path: Path, tmp_path: Path) -> None:
    """Any value of any option of every command; nothing is written but below a folder of its own."""
    from click import Option

    from edgevit.cli import main

    name = data.draw(st.sampled_from([name for name in COMMANDS if name not in ("demo", "deploy")]))
    command = main.get_command(None, name)  # type: ignore[arg-type]  # it looks at the name alone
    assert command is not None
    options = [item for item in command.params if isinstance(item, Option) and not item.is_flag and not item.count]
    arguments: dict[str, list[object]] = {
        "build": [checkpoint_path, "--dry-run"], "prune": [checkpoint_path, "--dry-run"], "compile": [fp32_bundle_path],
        "run": [fp32_bundle_path, "test://32x32?frames=1", "--headless"], "compare": [fp32_bundle_path, "--dry-run"],
        "inspect": [fp32_bundle_path], "attention": [fp32_bundle_path, tmp_path / "none.png"], "targets": [],
        "profile": [fp32_bundle_path, "test://32x32?frames=1"], "doctor": ["--json"],
        "service": [fp32_bundle_path, "0", "--print"], "healthcheck": [fp32_bundle_path, "--within", "0"],
        "package": [fp32_bundle_path, "0", "--as", "container", "--version", "1", "-o", tmp_path / "out"],
        "keygen": [tmp_path / "key"],
        "sign": [fp32_bundle_path, "--key", tmp_path / "none"], "classes": [fp32_bundle_path], "fleet": ["status"],
        "collect": ["test://32x32?frames=3", "-o", tmp_path / "out"],
        "completion": ["bash"],
        "sweep": [checkpoint_path, "--data", tmp_path / "none", "--dry-run"],
        "train": [tmp_path / "none", "--backbone", checkpoint_path],
        "embed": [checkpoint_path, "--classes", "a,b", "-o", tmp_path / "e.npz"],
    }  # fmt: skip
    chosen = [*arguments[name]]
    for item in data.draw(st.lists(st.sampled_from(options), max_size=2)) if options else ():
        value = data.draw(VALUES)
        if "--serve" in item.opts or value.startswith("~"):
            continue
        chosen += [max(item.opts, key=len), str(tmp_path / "out") if item.opts[0] in ("-o", "--out") else value]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        fuzz.command(name, *chosen)
