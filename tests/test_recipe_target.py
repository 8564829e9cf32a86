"""Recipes and targets: the shipped ones load, every key is documented, and a mistake is named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from edgevit import shipped
from edgevit.engine import BACKENDS
from edgevit.errors import ConfigError
from edgevit.recipe import Calibrate, Quantize, Recipe, load_recipe
from edgevit.shipped import shipped_dir, shipped_names
from edgevit.target import load_target

TARGET = 'description = "a board"\nprecisions = ["fp32", "int8"]\n[engine]\ndefault = "onnxruntime"\n'


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


# --- what ships ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_names("calibration"))
def test_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", shipped_names("targets"))
def test_shipped_target_loads(name: str) -> None:
    """Its engines exist, its description is one line, and it lists the precisions from the safest on."""
    target = load_target(name)
    assert target.name == name
    assert set(target.engines.values()) <= set(BACKENDS)
    assert target.description
    assert "\n" not in target.description
    assert target.precisions[0] == "fp32"


def test_the_defaults_ship() -> None:
    """The file says what the dataclass says: neither can change alone."""
    assert load_recipe("default") == Recipe()
    assert "cpu" in shipped_names("targets")


def test_every_recipe_key_is_explained() -> None:
    text = (shipped_dir("calibration") / "README.md").read_text(encoding="utf-8")
    for table, section in (("calibrate", Calibrate), ("quantize", Quantize)):
        for item in fields(section):
            assert f"`{table}.{item.name}`" in text


def test_every_target_key_is_explained() -> None:
    text = (shipped_dir("targets") / "README.md").read_text(encoding="utf-8")
    for key in ("description", "precisions", "engine"):
        assert f"`{key}`" in text


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
    assert recipe == Recipe(name="mine", calibrate=Calibrate(images=8), quantize=Quantize(linears=("fc1",), migration=()))


def test_recipe_file_of_attention_and_rounding(tmp_path: Path) -> None:
    """INT8 attention without qkv is no mistake: it is INT8 where qkv and proj are."""
    recipe = load_recipe(toml(tmp_path, '[quantize]\nattention = "off"\nrounding = "nearest"\n'))
    assert recipe.quantize == Quantize(attention="off", rounding="nearest")
    recipe = load_recipe(toml(tmp_path, '[quantize]\nattention = "full"\nlinears = ["fc1"]\n'))
    assert recipe.quantize == Quantize(attention="full", linears=("fc1",))


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "entropy", "mse", "output"])
def test_recipe_file_of_ranges(ranges: str, tmp_path: Path) -> None:
    text = f'[quantize]\nranges = "{ranges}"\npercentile = 100\ncentring = false\ntails = [2, 0.5]\nbias = "layer"\n'
    wanted = Quantize(ranges=ranges, percentile=100, centring=False, tails=(2, 0.5), bias="layer")
    assert load_recipe(toml(tmp_path, text)).quantize == wanted


def test_empty_recipe_file_is_the_default(tmp_path: Path) -> None:
    assert load_recipe(toml(tmp_path, "")) == Recipe(name="mine")


def test_target_file(tmp_path: Path) -> None:
    target = load_target(toml(tmp_path, TARGET + 'riscv64 = "openvino"\n'))
    assert (target.name, target.precisions) == ("mine", ("fp32", "int8"))
    assert (target.engine("riscv64"), target.engine("vax")) == ("openvino", "onnxruntime")


def test_target_picks_the_engine_of_the_machine() -> None:
    target = load_target("cpu")
    assert (target.engine("x86_64"), target.engine("aarch64")) == ("openvino", "onnxruntime")
    assert target.engine() in BACKENDS


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
