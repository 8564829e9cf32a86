"""Recipes and targets: the shipped ones load, every key is documented, and a mistake is named."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from edgevit import shipped
from edgevit.engines import ENGINES
from edgevit.errors import ConfigError
from edgevit.recipe import Calibrate, QuantizeSettings, Recipe, load_recipe
from edgevit.shipped import shipped_dir, shipped_names
from edgevit.target import Device, JetPack, Machine, PowerMode, load_target

TARGET = 'description = "a board"\nprecisions = ["fp32", "int8"]\n[engine]\ndefault = "onnxruntime"\n'
BOARD = """
description = "a board"
precisions = ["fp32", "fp16", "int8"]
family = "jetson"
boards = ["jetson-thor-t4000"]
multiple = 8
date = "2026-08-21"
[engine]
default = "tensorrt"
[minimum]
tensorrt = "10.3"
[device]
compute_capability = "8.7"
modules = ["p3767-0000"]
memory_gb = 7.5
dla = 0
int8_ops = 4096
fp16_ops = 2048
fp32_ops = 256
[[mode]]
name = "10W"
id = 0
default = true
sms = 4
gpu_mhz = 612.5
bandwidth_gbs = 34
[[mode]]
name = "10W"
id = 0
conf = "super"
sms = 2
gpu_mhz = 100
[[jetpack]]
version = "6.1"
l4t = "36.4.0 to 36.4.2"
tensorrt = "10.3.0"
cuda = "12.6"
python = "3.10"
boards = "Orin"
[sources]
device = "a data sheet"
"""
"""Every key there is."""

# INT8 TOPS and FP16 TFLOPS, dense, by mode; of the super nvpmodel file where its clocks are other ones.
PEAKS = {
    "jetson-orin-nano-4gb": {
        "10W": (10.0, 5.0), "7W_AI": (6.7, 3.3), "7W_CPU": (5.0, 2.5), "25W super": (16.7, 8.4), "MAXN_SUPER super": (16.7, 8.4)
    },
    "jetson-orin-nano-8gb": {
        "15W": (20.1, 10.0), "7W": (6.7, 3.3), "15W super": (20.1, 10.0), "25W super": (30.1, 15.0),
        "MAXN_SUPER super": (33.4, 16.7), "7W super": (6.7, 3.3),
    },
    "jetson-orin-nx-8gb": {
        "MAXN": (25.1, 12.5), "10W": (10.0, 5.0), "15W": (10.0, 5.0), "20W": (13.4, 6.7), "MAXN_SUPER super": (38.4, 19.2),
        "40W super": (38.4, 19.2),
    },
    "jetson-orin-nx-16gb": {
        "MAXN": (30.1, 15.0), "10W": (10.0, 5.0), "15W": (10.0, 5.0), "25W": (13.4, 6.7), "MAXN_SUPER super": (38.4, 19.2),
        "40W super": (38.4, 19.2),
    },
    "jetson-agx-orin-32gb": {"MAXN": (53.3, 26.7), "MODE_15W": (10.0, 5.0), "MODE_30W": (20.1, 10.0), "MODE_40W": (46.8, 23.4)},
    "jetson-agx-orin-64gb": {"MAXN": (85.2, 42.6), "MODE_15W": (10.0, 5.0), "MODE_30W": (20.1, 10.0), "MODE_50W": (53.5, 26.7)},
    "jetson-agx-orin-32gb-devkit": {
        "MAXN": (85.2, 42.6), "MODE_15W": (10.0, 5.0), "MODE_30W": (20.1, 10.0), "MODE_50W": (53.5, 26.7)
    },
    "jetson-agx-orin-industrial": {"MAXN": (77.7, 38.8)},
    "jetson-igx-orin": {"MAXN": (77.7, 38.8)},
    "jetson-thor-t4000": {"peak": (300, 150)},
    "jetson-thor-t5000": {"MAXN": (516, 258)},
    "dgx-spark": {"peak": (250, 125)},
    "rtx-ampere": {"RTX 3060": (101.9, 50.9)},
    "rtx-ada": {"RTX 4090": (660.6, 330.3)},
    "rtx-blackwell": {"RTX 5090": (838, 419)},
}  # fmt: skip
BANDWIDTHS = {
    "jetson-orin-nano-4gb": {"10W": 34.1, "7W_AI": 34.1, "7W_CPU": 34.1, "25W super": 51.2},
    "jetson-orin-nano-8gb": {"15W": 68.3, "7W": 68.3, "25W super": 102.4, "7W super": None},
    "jetson-orin-nx-8gb": {"10W": 68.3, "15W": 102.4, "20W": 102.4, "40W super": 102.4},
    "jetson-orin-nx-16gb": {"10W": 68.3, "15W": 102.4, "25W": 102.4, "40W super": 102.4},
    "jetson-agx-orin-64gb": {"MODE_15W": 136.5, "MODE_30W": 204.7},
}
DEFAULTS = {
    "jetson-orin-nano-4gb": ["10W", "25W super"],
    "jetson-orin-nano-8gb": ["15W", "25W super"],
    "jetson-orin-nx-8gb": ["15W", "40W super"],
    "jetson-orin-nx-16gb": ["15W", "40W super"],
    "jetson-agx-orin-32gb": ["MODE_30W"],
    "jetson-agx-orin-64gb": ["MODE_30W"],
    "jetson-agx-orin-32gb-devkit": ["MODE_30W"],
}


def toml(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(load, name: str) -> str:
    """The message of the ConfigError: one line that names the file."""
    with pytest.raises(ConfigError) as caught:
        load(name)
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


def modes_of(name: str) -> dict[str, PowerMode]:
    """The power modes of a shipped target; those of the super nvpmodel file say so."""
    return {f"{mode.name} super" if mode.conf == "super" else mode.name: mode for mode in load_target(name).modes}


# --- what ships ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_names("calibration"))
def test_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", shipped_names("targets"))
def test_shipped_target_loads(name: str) -> None:
    """Its engines exist, its description is one line, and it lists the precisions from the safest on."""
    target = load_target(name)
    assert target.name == name
    assert set(target.engines.values()) <= set(ENGINES)
    assert target.description
    assert "\n" not in target.description
    assert target.precisions[0] == "fp32"


@pytest.mark.parametrize("name", shipped_names("targets"))
def test_shipped_target_has_sources(name: str) -> None:
    """What has figures says from where, or that it assumes them."""
    target = load_target(name)
    assert target.family
    assert "multiple" in target.sources
    if target.device:
        assert {"device", "ops"} <= set(target.sources)
        assert {"mode", "assumption"} & set(target.sources) or target.family == "rtx"
    if target.minimum:
        assert "minimum" in target.sources


@pytest.mark.parametrize("name", PEAKS)
def test_peaks(name: str) -> None:
    """SMs x operations per clock x clock is what the vendor publishes, or implies, for the GPU alone and dense."""
    target, modes = load_target(name), modes_of(name)
    for mode, (int8, fp16) in PEAKS[name].items():
        found = [target.device.peak(modes[mode], precision) / 1e12 for precision in ("int8", "fp16")]
        assert found == pytest.approx([int8, fp16], abs=0.06, rel=2e-3), mode


def test_every_gpu_has_its_peaks_tested() -> None:
    assert set(PEAKS) == {name for name in shipped_names("targets") if load_target(name).device}
    assert set(load_target("jetson").boards) == {name for name in PEAKS if name.startswith("jetson")}


@pytest.mark.parametrize("name", BANDWIDTHS)
def test_bandwidths(name: str) -> None:
    found = {mode: each.bandwidth_gbs for mode, each in modes_of(name).items()}
    assert found.items() >= BANDWIDTHS[name].items()


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_modes(name: str) -> None:
    """One by nvpmodel file."""
    assert [mode for mode, each in modes_of(name).items() if each.default] == DEFAULTS[name]


def test_super_ids() -> None:
    """MAXN_SUPER is id 2 on Orin Nano and 0 on Orin NX: ids are not portable."""
    found = {name: (modes_of(name)["MAXN_SUPER super"].id) for name in PEAKS if "orin-n" in name}
    assert found == {name: 2 if "nano" in name else 0 for name in found}
    assert len(found) == 4


def test_modules() -> None:
    """No two boards share one, unless their memory tells them apart."""
    devices = {name: load_target(name).device for name in PEAKS}
    known = [(module, device.memory_gb) for device in devices.values() for module in device.modules]
    assert len(known) == len(set(known))
    found = {module: name for name, device in devices.items() for module in device.modules}
    assert (found["p3834-0000"], found["p3834-0008"]) == ("jetson-thor-t4000", "jetson-thor-t5000")


def test_engines_of_gpus() -> None:
    engines = {name: load_target(name).engine("aarch64") for name in PEAKS}
    assert {name for name, engine in engines.items() if engine == "tensorrt_rtx"} == {"rtx-ampere", "rtx-ada", "rtx-blackwell"}
    assert {engine for engine in engines.values() if engine != "tensorrt_rtx"} == {"tensorrt"}


def test_jetpacks_are_in_one_place() -> None:
    assert [name for name in shipped_names("targets") if load_target(name).jetpacks] == ["jetson"]
    family = load_target("jetson")
    assert family.date == "2026-08-21"
    assert family.minimum == {"tensorrt": "10.3"}
    oldest = next(item for item in family.jetpacks if item.tensorrt.startswith("10."))
    assert oldest == JetPack(version="6.1", l4t="36.4.0 to 36.4.2", tensorrt="10.3.0", cuda="12.6", python="3.10", boards="Orin")


def test_the_defaults_ship() -> None:
    """The file says what the dataclass says: neither can change alone."""
    assert load_recipe("default") == Recipe()
    assert "cpu" in shipped_names("targets")


def test_every_recipe_key_is_explained() -> None:
    text = (shipped_dir("calibration") / "README.md").read_text(encoding="utf-8")
    for table, section in (("calibrate", Calibrate), ("quantize", QuantizeSettings)):
        for item in fields(section):
            assert f"`{table}.{item.name}`" in text


def test_every_target_key_is_explained() -> None:
    """Those of the test's own file, which has all that there are."""
    text = (shipped_dir("targets") / "README.md").read_text(encoding="utf-8")
    for key in ("description", "precisions", "engine", "minimum", "family", "boards", "multiple", "date", "sources"):
        assert f"`{key}`" in text
    for table, section in (("device", Device), ("mode", PowerMode), ("jetpack", JetPack), ("machine", Machine)):
        for item in fields(section):
            assert f"`{table}.{item.name}`" in text


@pytest.mark.parametrize("name", shipped_names("targets"))
def test_every_target_is_explained(name: str) -> None:
    table = (shipped_dir("targets") / "README.md").read_text(encoding="utf-8").partition("## Keys")[0]
    assert f"`{name}`" in table


@pytest.mark.parametrize("kind", ["calibration", "targets"])
def test_found_in_a_wheel(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel holds the folders inside the package, and then no others are looked at."""
    package = tmp_path / "site-packages" / "edgevit"
    (package / "_data" / kind).mkdir(parents=True)
    (package / "_data" / kind / "own.toml").touch()
    (tmp_path / "site-packages" / kind).mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped_dir(kind) == package / "_data" / kind
    assert shipped_names(kind) == ("own",)


@pytest.mark.parametrize("kind", ["calibration", "targets"])
def test_found_in_a_checkout(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "edgevit")
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "own.toml").touch()
    assert shipped_names(kind) == ("own",)


# --- files of the user's own -----------------------------------------------------------------------------------------------


def test_recipe_file(tmp_path: Path) -> None:
    recipe = load_recipe(toml(tmp_path, '[calibrate]\nimages = 8\n[quantize]\nlinears = ["fc1"]\nmigration = []\n'))
    assert recipe == Recipe(name="mine", calibrate=Calibrate(images=8), quantize=QuantizeSettings(linears=("fc1",), migration=()))


def test_recipe_file_of_attention_and_rounding(tmp_path: Path) -> None:
    """INT8 attention without qkv is no mistake: it is INT8 where qkv and proj are."""
    recipe = load_recipe(toml(tmp_path, '[quantize]\nattention = "off"\nrounding = "nearest"\n'))
    assert recipe.quantize == QuantizeSettings(attention="off", rounding="nearest")
    recipe = load_recipe(toml(tmp_path, '[quantize]\nattention = "full"\nlinears = ["fc1"]\n'))
    assert recipe.quantize == QuantizeSettings(attention="full", linears=("fc1",))


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "entropy", "mse", "output"])
def test_recipe_file_of_ranges(ranges: str, tmp_path: Path) -> None:
    text = f'[quantize]\nranges = "{ranges}"\npercentile = 100\ncentring = false\ntails = [2, 0.5]\nbias = "layer"\n'
    wanted = QuantizeSettings(ranges=ranges, percentile=100, centring=False, tails=(2, 0.5), bias="layer")
    assert load_recipe(toml(tmp_path, text)).quantize == wanted


def test_empty_recipe_file_is_the_default(tmp_path: Path) -> None:
    assert load_recipe(toml(tmp_path, "")) == Recipe(name="mine")


def test_target_file(tmp_path: Path) -> None:
    target = load_target(toml(tmp_path, TARGET + 'riscv64 = "openvino"\n'))
    assert (target.name, target.precisions) == ("mine", ("fp32", "int8"))
    assert (target.engine("riscv64"), target.engine("vax")) == ("openvino", "onnxruntime")


def test_target_file_with_every_key(tmp_path: Path) -> None:
    target = load_target(toml(tmp_path, BOARD))
    assert (target.family, target.boards, target.multiple, target.date) == ("jetson", ("jetson-thor-t4000",), 8, "2026-08-21")
    assert target.minimum == {"tensorrt": "10.3"}
    assert target.device == Device(
        compute_capability="8.7", modules=("p3767-0000",), memory_gb=7.5, dla=0, int8_ops=4096, fp16_ops=2048, fp32_ops=256
    )
    assert target.modes == (
        PowerMode(name="10W", id=0, default=True, sms=4, gpu_mhz=612.5, bandwidth_gbs=34),
        PowerMode(name="10W", id=0, conf="super", sms=2, gpu_mhz=100),
    )
    assert target.sources == {"device": "a data sheet"}


def test_target_as_json(tmp_path: Path) -> None:
    """With the peaks of each mode, which are in no file: 4 SMs x 4096 x 612.5 MHz."""
    document = json.loads(json.dumps(load_target(toml(tmp_path, BOARD)).to_dict()))
    assert [(mode["int8_tops"], mode["fp16_tflops"]) for mode in document["modes"]] == [(10.04, 5.02), (0.82, 0.41)]
    assert document["jetpacks"][0]["l4t"] == "36.4.0 to 36.4.2"
    assert document["device"]["modules"] == ["p3767-0000"]
    assert load_target(toml(tmp_path, TARGET)).to_dict()["modes"] == []


MACHINE = TARGET + '[machine]\narch = "aarch64"\nmodels = ["a board", "its sister"]\n'


def test_machine_of_a_target(tmp_path: Path) -> None:
    assert load_target(toml(tmp_path, MACHINE)).machine == Machine(arch="aarch64", models=("a board", "its sister"))
    assert load_target(toml(tmp_path, TARGET)).machine is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('[machine]\narch = "aarch64"\nmodels = ["a board", "its sister"]', "[machine]", "machine must be a table, [machine]"),
        ("[machine]", "[[machine]]", "machine must be a table, [machine]"),
        ('"aarch64"', "64", "machine.arch must be a line of text, and is 64"),
        ('["a board", "its sister"]', "[]", "machine.models must be a list of names"),
        ('["a board", "its sister"]', '"a board"', "machine.models must be a list of names"),
        ("models =", "model =", "unknown key machine.model. Did you mean 'models'?"),
    ],
)
def test_nonsense_about_machines(old: str, new: str, said: str, tmp_path: Path) -> None:
    load_target(toml(tmp_path, MACHINE))
    assert said in refusal(load_target, toml(tmp_path, MACHINE.replace(old, new))).partition(": ")[2]


def test_a_machine_or_a_device(tmp_path: Path) -> None:
    """A GPU is recognised by its device table."""
    assert "machine is for targets without a [device]" in refusal(load_target, toml(tmp_path, BOARD + '[machine]\narch = "x"\n'))


@pytest.mark.parametrize(("engine", "multiple"), [("onnxruntime", 16), ("openvino", 16), ("tensorrt", 32), ("tensorrt_rtx", 32)])
def test_multiple_by_default(engine: str, multiple: int, tmp_path: Path) -> None:
    """What one vector register, or TensorRT's INT8 format, holds."""
    assert load_target(toml(tmp_path, TARGET.replace("onnxruntime", engine))).multiple == multiple
    assert load_target(toml(tmp_path, "multiple = 4\n" + TARGET.replace("onnxruntime", engine))).multiple == 4


def test_target_picks_the_engine_of_the_machine() -> None:
    target = load_target("cpu")
    assert (target.engine("x86_64"), target.engine("aarch64")) == ("openvino", "onnxruntime")
    assert target.engine() in ENGINES


@pytest.mark.parametrize("load", [load_recipe, load_target])
@pytest.mark.parametrize("name", ["nothing", "nothing.toml", "", "folder/", "../default"])
def test_unknown_names(load, name: str) -> None:
    refusal(load, name)


def test_unknown_names_get_the_nearest() -> None:
    assert "Did you mean 'default'?" in refusal(load_recipe, "defualt")
    assert "Did you mean 'cpu'?" in refusal(load_target, "cpus")
    assert "no such file" in refusal(load_target, "gone.toml")


@pytest.mark.parametrize("load", [load_recipe, load_target])
@pytest.mark.parametrize("content", [b"images = = 3", b"[calibrate", b"\xff\xfe", b"a = 1\na = 2"])
def test_wrong_syntax(load, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert "not a readable TOML file" in refusal(load, str(path))


# --- wrong values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[calibrat]\n", "unknown key calibrat. Did you mean 'calibrate'?"),
        ("[calibrate]\nimage = 3\n", "unknown key calibrate.image. Did you mean 'images'?"),
        ("[quantize]\nlinear = []\n", "unknown key quantize.linear. Did you mean 'linears'?"),
        (
            "[quantize]\nzzz = 1\n",
            "unknown key quantize.zzz. Known: attention, bias, centring, linears, migration, percentile, "
            "ranges, rounding, tails.",
        ),
        ("calibrate = 3\n", "calibrate must be a table, [calibrate]"),
        ("[[calibrate]]\nimages = 3\n", "calibrate must be a table"),
        ("[calibrate]\nimages = 0\n", "calibrate.images must be a whole number of at least 1, not 0"),
        ("[calibrate]\nimages = 3.0\n", "calibrate.images must be a whole number"),
        ('[calibrate]\nimages = "3"\n', "calibrate.images must be a whole number"),
        ("[calibrate]\nimages = true\n", "calibrate.images must be a whole number"),
        ("[calibrate]\nimages = [3]\n", "calibrate.images must be a whole number"),
        ("[calibrate]\nseed = -1\n", "calibrate.seed must be a whole number of at least 0, not -1"),
        ("[calibrate]\ntokens = 63\n", "calibrate.tokens must be a whole number of at least 64, not 63"),
        ('[quantize]\nlinears = ["qkw"]\n', "quantize.linears: unknown 'qkw'. Did you mean 'qkv'?"),
        ("[quantize]\nlinears = [1]\n", "quantize.linears: unknown 1"),
        ('[quantize]\nlinears = "qkv"\n', "quantize.linears must be a list"),
        ("[quantize]\nlinears = 1\n", "quantize.linears must be a list"),
        ('[quantize]\nlinears = ["fc1", "fc1"]\n', "quantize.linears"),
        ("[quantize]\nscores = true\n", "unknown key quantize.scores."),
        ("[quantize]\nattentoin = 1\n", "unknown key quantize.attentoin. Did you mean 'attention'?"),
        ('[quantize]\nattention = "ful"\n', "quantize.attention: unknown 'ful'. Did you mean 'full'?"),
        ("[quantize]\nattention = true\n", "quantize.attention: unknown True"),
        ("[quantize]\ncentring = 1\n", "quantize.centring must be true or false, not 1"),
        ('[quantize]\ncentring = "yes"\n', "quantize.centring must be true or false, not 'yes'"),
        ("[quantize]\ncentring = [true]\n", "quantize.centring must be true or false, not (True,)"),
        ('[quantize]\nranges = "minimax"\n', "quantize.ranges: unknown 'minimax'. Did you mean 'minmax'?"),
        ('[quantize]\nbias = "layers"\n', "quantize.bias: unknown 'layers'. Did you mean 'layer'?"),
        ("[quantize]\nbias = false\n", "quantize.bias: unknown False"),
        ("[quantize]\ntails = 0.5\n", "quantize.tails must be a list"),
        ("[quantize]\ntails = [0.5, 0.5]\n", "quantize.tails names a value twice"),
        ("[quantize]\ntails = [-0.1]\n", "widths lie in [0, 10], not -0.1"),
        ("[quantize]\ntails = [11]\n", "widths lie in [0, 10], not 11"),
        ("[quantize]\ntails = [nan]\n", "widths lie in [0, 10], not nan"),
        ("[quantize]\npercentile = 101\n", "lies in [50, 100], not 101"),
        ("[quantize]\npercentile = 0.999\n", "lies in [50, 100], not 0.999"),
        ('[quantize]\npercentile = "99"\n', "lies in [50, 100], not '99'"),
        ('[quantize]\nrounding = "gtpq"\n', "quantize.rounding: unknown 'gtpq'. Did you mean 'gptq'?"),
        ("[quantize]\nrounding = 8\n", "quantize.rounding: unknown 8"),
        ('[quantize]\nrounding = ["gptq"]\n', "quantize.rounding: unknown"),
        ("[quantize]\nmigration = 0.5\n", "quantize.migration must be a list"),
        ('[quantize]\nmigration = "0.5"\n', "quantize.migration must be a list"),
        ("[quantize]\nmigration = [0]\n", "exponents lie in (0, 1], not 0"),
        ("[quantize]\nmigration = [0.5, 1.5]\n", "exponents lie in (0, 1], not 1.5"),
        ("[quantize]\nmigration = [nan]\n", "exponents lie in (0, 1], not nan"),
        ("[quantize]\nmigration = [true]\n", "exponents lie in (0, 1], not True"),
        ('[quantize]\nmigration = ["0.5"]\n', "exponents lie in (0, 1], not '0.5'"),
    ],
)
def test_wrong_recipes(text: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(load_recipe, toml(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("description", "descripton", "unknown key descripton. Did you mean 'description'?"),
        ('description = "a board"\n', "", "description"),
        ('"a board"', "3", "description"),
        ('precisions = ["fp32", "int8"]\n', "", "precisions"),
        ('["fp32", "int8"]', '"int8"', "precisions"),
        ('["fp32", "int8"]', "3", "precisions"),
        ('["fp32", "int8"]', "[]", "precisions"),
        ('["fp32", "int8"]', '["fp32", "in8"]', "precisions"),
        ("[engine]\ndefault", "engine", "engine"),
        ("default", "x86_64", "default"),
        ('[engine]\ndefault = "onnxruntime"\n', "", "engine"),
        ('"onnxruntime"', "3", "engine"),
    ],
)
def test_wrong_targets(old: str, new: str, said: str, tmp_path: Path) -> None:
    """Only the named part of a valid target is changed."""
    load_target(toml(tmp_path, TARGET))
    message = refusal(load_target, toml(tmp_path, TARGET.replace(old, new)))
    assert said in message.partition(": ")[2]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("family =", "famly =", "unknown key famly. Did you mean 'family'?"),
        ('"jetson"', '"jetsn"', "family must be one of cpu, jetson, rtx, and is 'jetsn'"),
        ('"jetson"', '["jetson"]', "family must be one of"),
        ('"a board"', '""', "description must be a line of text, and is ''"),
        ('"a board"', '"a\\nboard"', "description must be a line of text"),
        ('"fp16", ', '"fp32", ', "precisions must be a list of some of fp32, fp16, int8, each once"),
        ('"fp16", ', "[], ", "precisions must be a list"),
        ('["jetson-thor-t4000"]', '"jetson"', "boards must be a list of target names"),
        ('["jetson-thor-t4000"]', '["cpu", "cpu"]', "boards must be a list of target names, each once"),
        ("t4000", "t400", "boards: unknown 'jetson-thor-t400'. Did you mean 'jetson-thor-t4000'?"),
        ("multiple = 8", "multiple = 0", "multiple must be a whole number of at least 1, and is 0"),
        ("multiple = 8", "multiple = true", "multiple must be a whole number"),
        ("multiple = 8", "multiple = 8.0", "multiple must be a whole number"),
        ('"2026-08-21"', "2026-08-21", "date must be a day like"),
        ('"2026-08-21"', '"2026-08-32"', "date must be a day like"),
        ('"2026-08-21"', '"August"', "date must be a day like"),
        ('date = "2026-08-21"\n', "", "jetpack needs a date"),
        ('"tensorrt"', '""', "engine must be a table of engine names"),
        ('tensorrt = "10.3"', "tensorrt = 10.3", "minimum must be a table of versions"),
        ('tensorrt = "10.3"', 'tensorrt = "ten"', "minimum must be a table of versions"),
        ('tensorrt = "10.3"', 'tensorrrt = "10.3"', "minimum: unknown 'tensorrrt'. Did you mean 'tensorrt'?"),
        ("[device]", "[devise]", "unknown key devise. Did you mean 'device'?"),
        ("[device]", "[[device]]", "device must be a table, [device]"),
        ("dla = 0\n", "", "device.dla must be a whole number of at least 0, and is missing"),
        ("dla = 0", "dla = -1", "device.dla must be a whole number of at least 0, and is -1"),
        ("dla = 0", "dla = false", "device.dla must be a whole number"),
        ('"8.7"', '"8.x"', "device.compute_capability must be a text like \"8.7\", and is '8.x'"),
        ('"8.7"', "8.7", "device.compute_capability"),
        ('"p3767-0000"', '"Orin"', "device.modules must be a list of part numbers"),
        ('"p3767-0000"', '""', "device.modules must be a list of part numbers"),
        ("7.5", "-8", "device.memory_gb must be a number above 0, and is -8"),
        ("7.5", "0", "device.memory_gb must be a number above 0"),
        ("7.5", "inf", "device.memory_gb must be a number above 0"),
        ("7.5", '"8 GB"', "device.memory_gb must be a number above 0"),
        ("int8_ops = 4096", "int8_ops = 0", "device.int8_ops must be a whole number of at least 1, and is 0"),
        ("fp16_ops = 2048", "fp16_ops = -1", "device.fp16_ops must be a whole number of at least 1"),
        ("fp32_ops = 256", "fp32_ops = 0", "device.fp32_ops must be a whole number of at least 1"),
        ("fp32_ops = 256", "fp23_ops = 256", "unknown key device.fp23_ops. Did you mean 'fp32_ops'?"),
        ("sms = 4", "sms = 0", "mode.sms must be a whole number of at least 1, and is 0"),
        ("sms = 4\n", "", "mode.sms must be a whole number of at least 1, and is missing"),
        ("sms = 4", "smms = 4", "unknown key mode.smms. Did you mean 'sms'?"),
        ("612.5", "nan", "mode.gpu_mhz must be a number above 0, and is nan"),
        ("612.5", "0", "mode.gpu_mhz must be a number above 0"),
        ("612.5", "true", "mode.gpu_mhz must be a number above 0"),
        ("bandwidth_gbs = 34", "bandwidth_gbs = -34", "mode.bandwidth_gbs must be a number above 0"),
        ("bandwidth_gbs = 34", "bandwidth_gbs = nan", "mode.bandwidth_gbs must be a number above 0"),
        ('"10W"', "10", "mode.name must be a line of text, and is 10"),
        ("id = 0", "id = -1", "mode.id must be a whole number of at least 0"),
        ("default = true", 'default = "yes"', "mode.default must be true or false"),
        ('"super"', '"sooper"', "mode.conf must be one of standard, super, and is 'sooper'"),
        ('conf = "super"', 'conf = "standard"', "mode.id: 0 twice in conf standard"),
        ('id = 0\nconf = "super"', "id = 1", "mode.name: '10W' twice in conf standard"),
        ('name = "10W"\nid = 0\nconf = "super"', 'name = "5W"\ndefault = true', "mode: two of conf standard are the default"),
        ("[[mode]]", "[[modes]]", "unknown key modes. Did you mean 'mode'?"),
        ("[[jetpack]]", "[jetpack]", "jetpack must be tables, [[jetpack]]"),
        ("36.4.0 to 36.4.2", "36.4", "jetpack.l4t must be a version like"),
        ("36.4.0 to 36.4.2", "36.4.2 to 36.4.0", "jetpack.l4t must be a version like"),
        ('"10.3.0"', '"10.x"', "jetpack.tensorrt must be a version like"),
        ('"12.6"', "12.6", "jetpack.cuda must be a version like"),
        ('python = "3.10"\n', "", 'jetpack.python must be a version like "10.3", and is missing'),
        ('boards = "Orin"', 'boards = ["Orin"]', "jetpack.boards must be a line of text"),
        ('"a data sheet"', "3", "sources must be a table of lines of text"),
        ('[sources]\ndevice = "a data sheet"', "sources = 3", "sources"),
    ],
)
def test_nonsense_about_boards(old: str, new: str, said: str, tmp_path: Path) -> None:
    """As above, with every key there is."""
    assert old in BOARD
    load_target(toml(tmp_path, BOARD))
    message = refusal(load_target, toml(tmp_path, BOARD.replace(old, new)))
    assert said in message.partition(": ")[2]


def test_modes_need_a_device(tmp_path: Path) -> None:
    text = re.sub(r"\[device\].*?(?=\[\[mode)", "", BOARD, flags=re.DOTALL)
    assert "mode needs a [device]" in refusal(load_target, toml(tmp_path, text))


@pytest.mark.parametrize("key", ["mode", "jetpack"])
def test_lists_of_tables(key: str, tmp_path: Path) -> None:
    assert f"{key} must be tables, [[{key}]]" in refusal(load_target, toml(tmp_path, f"{key} = [3]\n" + TARGET))


def test_jetpacks_out_of_order(tmp_path: Path) -> None:
    """The first that will do is looked for from the oldest on."""
    older = BOARD[BOARD.index("[[jetpack]]") : BOARD.index("[sources]")].replace("36.4.0 to 36.4.2", "36.3.0")
    assert "list the oldest first" in refusal(load_target, toml(tmp_path, BOARD + older))
