"""Power, clocks and heat of boards that are laid out as files, of this machine, and their summary."""

from __future__ import annotations

import math
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.device import telemetry as telemetry_module
from edgevit.device.jetson import Board
from edgevit.device.power import counted, find_rails, read_rails, total
from edgevit.device.sensors import KernelFiles, Psutil, Sample, of_tegrastats
from edgevit.device.tegrastats import parse
from edgevit.device.telemetry import FIGURES, NO_PSUTIL, Telemetry, lines, open_telemetry
from edgevit.device.throttling import Throttling
from tests.device.boards import THOR, board_of, modules, write
from tests.device.test_tegrastats import ORIN_NANO_JP7, THOR_JP7

BOARD = Board(
    model="a board", target=None, compute_capability="8.7", l4t=None, memory_bytes=None, gpu_mhz=1020.0, mode_id=2, mode="25W"
)


def ina3221(root: Path, address: str, *channels: tuple[str, int, int], hwmon: int = 3) -> Path:
    """A monitor's files as JetPack 5 on has them: label, millivolts and milliamperes by channel."""
    folder = root / f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon{hwmon}"
    for at, (label, millivolts, milliamperes) in enumerate(channels, 1):
        write(folder / f"in{at}_label", label + "\n")
        write(folder / f"in{at}_input", f"{millivolts}\n")
        write(folder / f"curr{at}_input", f"{milliamperes}\n")
    write(folder / "in7_label", "sum of shunt voltages\n")
    write(folder / "in7_input", "12\n")
    return folder


def orin_nano(root: Path) -> Path:
    """An Orin Nano of JetPack 6 at work: 5.04 V x 1.5 A at its input, GPU at 918 of 1020 MHz."""
    board_of(root)
    ina3221(root, "1-0040", ("VDD_IN", 5040, 1500), ("VDD_CPU_GPU_CV", 5040, 500), ("VDD_SOC", 5040, 250))
    gpu = root / "sys/class/devfreq/17000000.gpu"
    write(gpu / "cur_freq", "918000000\n")
    write(gpu / "max_freq", "1020000000\n")
    write(root / "sys/devices/platform/bus@0/17000000.gpu/load", "875\n")
    for at, (zone, degrees) in enumerate({"cpu-thermal": 51250, "tj-thermal": 56500, "cv0-thermal": -256000}.items()):
        write(root / f"sys/class/thermal/thermal_zone{at}/type", zone + "\n")
        write(root / f"sys/class/thermal/thermal_zone{at}/temp", f"{degrees}\n")
    for core, kilohertz in enumerate((1_500_000, 1_100_000)):
        write(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{kilohertz}\n")
    write(root / "proc/meminfo", "MemTotal: 7680000 kB\nMemFree: 1000 kB\nMemAvailable: 3584000 kB\n")
    cooling(root, 0, "pwm-fan", 2)
    cooling(root, 1, "gpu-throttle-alert", 0)
    return root


def cooling(root: Path, number: int, kind: str, state: int) -> Path:
    folder = root / f"sys/class/thermal/cooling_device{number}"
    write(folder / "type", kind + "\n")
    write(folder / "cur_state", f"{state}\n")
    return folder / "cur_state"


# --- rails -----------------------------------------------------------------------------------------------------------


def test_rails(tmp_path: Path) -> None:
    """Volts by amperes; the input alone is the whole, since it feeds the others."""
    rails = read_rails(find_rails(orin_nano(tmp_path)))
    assert rails == pytest.approx({"VDD_IN": 7.56, "VDD_CPU_GPU_CV": 2.52, "VDD_SOC": 1.26})
    assert (counted(rails), total(rails)) == (("VDD_IN",), pytest.approx(7.56))


def test_rails_of_two_monitors(tmp_path: Path) -> None:
    """AGX Orin measures no input: its rails are summed; inputs that are not connected are no rails."""
    ina3221(tmp_path, "1-0040", ("VDD_GPU_SOC", 20000, 200), ("VDD_CPU_CV", 20000, 100), ("VIN_SYS_5V0", 5000, 700), hwmon=4)
    ina3221(tmp_path, "1-0041", ("NC", 5000, 999), ("VDDQ_VDD2_1V8AO", 5000, 60), ("NC", 5000, 999), hwmon=5)
    rails = read_rails(find_rails(tmp_path))
    assert rails == pytest.approx({"VDD_GPU_SOC": 4, "VDD_CPU_CV": 2, "VIN_SYS_5V0": 3.5, "VDDQ_VDD2_1V8AO": 0.3})
    assert total(rails) == pytest.approx(9.8)
    assert counted(rails) == tuple(rails)


def test_rails_of_jetpack_4(tmp_path: Path) -> None:
    """Another driver: milliwatts by rail, counted from 0."""
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    for at, (name, milliwatts) in enumerate({"POM_5V_IN": 2500, "POM_5V_GPU": 40, "POM_5V_CPU": 700}.items()):
        write(folder / f"rail_name_{at}", name + "\n")
        write(folder / f"in_power{at}_input", f"{milliwatts}\n")
    rails = read_rails(find_rails(tmp_path))
    assert rails == {"POM_5V_IN": 2.5, "POM_5V_GPU": 0.04, "POM_5V_CPU": 0.7}
    assert total(rails) == 2.5


@pytest.mark.parametrize("damage", ["", "busy\n"])
def test_rail_that_cannot_be_read(damage: str, tmp_path: Path) -> None:
    """A sensor that answers nothing: that rail is not there this time, the others are."""
    root = orin_nano(tmp_path)
    rails = find_rails(root)
    (root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input").write_text(damage)
    assert set(read_rails(rails)) == {"VDD_CPU_GPU_CV", "VDD_SOC"}


def test_rails_of_thor(tmp_path: Path) -> None:
    """Its input has a monitor of its own, which is the whole; the others are two thirds of it."""
    ina3221(tmp_path, "2-0040", ("VDD_GPU", 20000, 100), ("VDD_CPU_SOC_MSS", 20000, 300), ("VIN_SYS_5V0", 5000, 1100))
    folder = tmp_path / "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon5"
    write(folder / "in1_input", "19780\n")
    write(folder / "curr1_input", "1000\n")
    rails = read_rails(find_rails(tmp_path))
    assert rails == pytest.approx({"VDD_GPU": 2, "VDD_CPU_SOC_MSS": 6, "VIN_SYS_5V0": 5.5, "VIN": 19.78})
    assert (counted(rails), total(rails)) == (("VIN",), pytest.approx(19.78))


def test_no_rails(tmp_path: Path) -> None:
    assert find_rails(tmp_path) == {}
    assert total({}) is None


# --- the other files -------------------------------------------------------------------------------------------------


def test_files_of_a_board(tmp_path: Path) -> None:
    """Clocks, load, memory and temperatures in their units; a sensor that is off is left out; a fan is no throttle."""
    sample = KernelFiles(orin_nano(tmp_path))()
    assert (sample.gpu_mhz, sample.gpu_load, sample.cpu_mhz, sample.cpu_load) == (918, 87.5, 1300, None)
    assert sample.memory_mb == 4000
    assert sample.temperatures == {"cpu-thermal": 51.25, "tj-thermal": 56.5}
    assert sample.throttling == ()


@pytest.mark.parametrize("folder", ["sys/devices/17000000.ga10b/devfreq/17000000.ga10b", "sys/class/devfreq/gpu-gpc-0"])
def test_gpu_clock_of_other_jetpacks(folder: str, tmp_path: Path) -> None:
    write(tmp_path / folder / "cur_freq", "306000000\n")
    assert KernelFiles(tmp_path)().gpu_mhz == 306


def test_nothing_at_all(tmp_path: Path) -> None:
    """A machine that says nothing gives no values and no error."""
    assert KernelFiles(tmp_path)() == Sample()


def test_files_that_go_away(tmp_path: Path) -> None:
    """A driver unloaded while the camera runs."""
    root = orin_nano(tmp_path)
    files = KernelFiles(root)
    for path in [*root.rglob("*_input"), *root.rglob("temp"), *root.rglob("cur_freq"), root / "proc/meminfo"]:
        path.unlink()
    sample = files()
    assert (sample.rails, sample.temperatures, sample.gpu_mhz, sample.memory_mb) == ({}, {}, None, None)


# --- throttling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpu-throttle-alert", "cpufreq-cpu0", "devfreq-17000000.gpu", "Processor", "intel_powerclamp"])
def test_cooling_device(kind: str, tmp_path: Path) -> None:
    state = cooling(tmp_path, 0, kind, 0)
    ask = Throttling(tmp_path)
    assert ask() == ()
    state.write_text("3\n")
    assert ask() == (kind,)
    state.write_text("-1\n")  # powerclamp's word for off
    assert ask() == ()


@pytest.mark.parametrize("kind", ["pwm-fan", "hot-surface-alert", "LCD"])
def test_other_cooling_devices(kind: str, tmp_path: Path) -> None:
    """None of them slows anything, and alone they cannot tell."""
    cooling(tmp_path, 0, kind, 1)
    assert Throttling(tmp_path)() is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("sys/class/hwmon/hwmon2/oc3_event_cnt", "over-current"),
        ("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "CPU heat"),
    ],
)
def test_event_counters(path: str, reason: str, tmp_path: Path) -> None:
    """What counts is a rise; what was before the start does not."""
    write(tmp_path / path, "5\n")
    ask = Throttling(tmp_path)
    assert ask() == ()
    write(tmp_path / path, "6\n")
    assert ask() == (reason,)
    assert ask() == ()


def test_raspberry_pi(tmp_path: Path) -> None:
    """The bits of now, not those of the past: 0x50005 is under-voltage and throttled, now and before."""
    path = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    write(path, "50000\n")
    ask = Throttling(tmp_path)
    assert ask() == ()
    path.write_text("50005\n")
    assert ask() == ("under-voltage", "throttled")
    path.write_text("?\n")
    assert ask() == ()


# --- sampling --------------------------------------------------------------------------------------------------------


class Clock:
    """Time that stands until it is set."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def recorded(*samples: tuple[float, Sample], board: Board | None = BOARD) -> Telemetry:
    """Telemetry that took each sample at its second."""
    clock, waiting = Clock(), iter(sample for _, sample in samples)
    telemetry = Telemetry(lambda: next(waiting), board, clock=clock)
    for seconds, _ in samples:
        clock.seconds = seconds
        telemetry.take()
    return telemetry


def watts(power: float, **changes: object) -> Sample:
    return replace(Sample(rails={"VDD_IN": power, "VDD_SOC": 1.0}), **changes)


def test_energy_is_integrated() -> None:
    """By the trapezoidal rule over uneven steps: 2 s from 4 to 8 W, then 1 s from 8 to 6 W are 12 + 7 joules."""
    summary = recorded((0, watts(4)), (2, watts(8)), (3, watts(6))).summary(10)
    assert summary["seconds"] == 3
    assert summary["joules"] == pytest.approx(19)
    assert summary["joules_per_frame"] == pytest.approx(1.9)
    assert summary["power_w"] == pytest.approx({"min": 4, "mean": 6, "max": 8})
    assert summary["rails_w"]["VDD_SOC"]["mean"] == 1
    assert summary["power_is_of"] == ["VDD_IN"]


def test_energy_over_a_gap() -> None:
    """A sample without power is bridged by its neighbours: 4 W for 1 s, then 8 W for 1 s."""
    summary = recorded((0, watts(4)), (1, Sample()), (2, watts(8))).summary(0)
    assert summary["joules"] == pytest.approx(12)
    assert summary["joules_per_frame"] is None


def test_energy_of_a_sine() -> None:
    """Sampled each second for a minute, a swing of 12 s comes out at its mean."""
    samples = [(second, watts(6 + 3 * math.sin(2 * math.pi * second / 12))) for second in range(61)]
    assert recorded(*samples).summary(60)["joules_per_frame"] == pytest.approx(6)


def test_without_rails() -> None:
    """No power is None, not 0."""
    summary = recorded((0, Sample(cpu_load=10)), (1, Sample(cpu_load=30))).summary(5)
    assert [summary[key] for key in ("power_w", "joules", "joules_per_frame", "throttled")] == [None] * 4
    assert summary["cpu_load"] == {"min": 10, "mean": 20, "max": 30}
    assert "power" not in "".join(lines(summary))


def test_throttling_is_remembered() -> None:
    """Seen once, it is in the summary; the newest sample says what is now."""
    telemetry = recorded((0, watts(5, throttling=("cpu-throttle-alert",))), (1, watts(5, throttling=())))
    assert telemetry.sample()["throttled"] == "no"
    summary = telemetry.summary(1)
    assert (summary["throttled"], summary["throttling"]) == (True, ["cpu-throttle-alert"])
    assert lines(summary)[-1].split() == ["throttled", "cpu-throttle-alert"]


def test_hottest_sensor() -> None:
    telemetry = recorded((0, Sample(temperatures={"cpu": 50, "tj": 61.5})), (1, Sample(temperatures={"cpu": 55, "tj": 52})))
    assert (telemetry.sample()["temperature_c"], telemetry.sample()["temperature_sensor"]) == (55, "cpu")
    summary = telemetry.summary(1)
    assert (summary["temperature_c"]["max"], summary["temperature_sensor"]) == (61.5, "tj")


def test_newest_values() -> None:
    """Every key is there, known or not."""
    assert recorded((0, watts(5, gpu_mhz=918.0, throttling=()))).sample() == {
        "power_w": 5, "cpu_load": None, "cpu_mhz": None, "gpu_load": None, "gpu_mhz": 918, "memory_mb": None,
        "temperature_c": None, "temperature_sensor": None, "mode": "25W", "throttled": "no",
    }  # fmt: skip


def test_lines_for_people() -> None:
    sample = watts(7.5, gpu_mhz=918.0, gpu_load=80.0, cpu_load=20.0, memory_mb=4000.0, temperatures={"tj": 61.0}, throttling=())
    assert lines(recorded((0, sample), (2, sample)).summary(30)) == [
        "power             mean 7.50   max 7.50 W of VDD_IN   15.0 J, 0.5 J per frame",
        "machine           mode 25W, GPU 918 MHz of 1020, GPU 80 %, CPU 20 %, memory 4000 MB, 61 °C (tj)",
        "throttled         no",
    ]


# --- the whole of a machine ------------------------------------------------------------------------------------------


def test_of_a_board(tmp_path: Path) -> None:
    """Samples keep coming while the block runs, one more at its end; then the thread is gone."""
    root = orin_nano(tmp_path)
    with open_telemetry(root, interval=0.02) as telemetry:
        write(root / "sys/class/devfreq/17000000.gpu/cur_freq", "306000000\n")
        until(lambda: telemetry.sample()["gpu_mhz"] == 306)
        write(root / "sys/class/devfreq/17000000.gpu/cur_freq", "510000000\n")
    summary = telemetry.summary(4)
    assert (summary["gpu_mhz"]["min"], summary["gpu_mhz"]["max"]) == (306, 918)
    assert telemetry.sample()["gpu_mhz"] == 510
    assert summary["joules_per_frame"] == pytest.approx(7.56 * summary["seconds"] / 4)
    assert (summary["gpu_mhz_allowed"], summary["throttled"], telemetry.notes) == (1020, False, ())
    assert "edgevit telemetry" not in {thread.name for thread in threading.enumerate()}


def test_last_sample_counts(tmp_path: Path) -> None:
    """A run that is shorter than the interval still has its energy."""
    with open_telemetry(orin_nano(tmp_path), interval=60) as telemetry:
        time.sleep(0.05)
    assert telemetry.summary(1)["joules"] == pytest.approx(7.56 * telemetry.summary(1)["seconds"])
    assert telemetry.summary(1)["seconds"] >= 0.05


def test_tegrastats_where_no_file_has_rails(tmp_path: Path) -> None:
    """A program in place of NVIDIA's prints a board's real line; it is ended with the block."""
    root = board_of(tmp_path)
    ended = tmp_path / "ended"
    tegrastats(
        root,
        f"""
        import signal, sys, time
        def end(*_):
            open({str(ended)!r}, "w").close(); sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        assert sys.argv[1:] == ["--interval", "20"], sys.argv
        while True:
            print({ORIN_NANO_JP7!r}, flush=True); time.sleep(0.02)
        """,
    )
    with open_telemetry(root, interval=0.02) as telemetry:
        until(lambda: telemetry.sample()["power_w"] == 3.462)
        values = telemetry.sample()
    assert (values["gpu_mhz"], values["gpu_load"], values["temperature_c"]) == (305, 0, 46.562)
    assert telemetry.summary(1)["power_is_of"] == ["VDD_IN"]
    assert ended.exists()


def test_tegrastats_where_no_file_has_thors_input(tmp_path: Path) -> None:
    """Power and energy are the input's from the start, though tegrastats tells it a moment later."""
    root = board_of(tmp_path, model=THOR, compatible=modules("p4071-0000+p3834-0008", "p3834-0008", chip="tegra264"), mib=125772)
    ina3221(root, "2-0040", ("VDD_GPU", 20000, 100), ("VDD_CPU_SOC_MSS", 20000, 300), ("VIN_SYS_5V0", 5000, 1100))
    tegrastats(root, f"import time; time.sleep(0.2)\nwhile True:\n    print({THOR_JP7!r}, flush=True); time.sleep(0.02)")
    with open_telemetry(root, interval=0.02) as telemetry:
        assert telemetry.sample()["power_w"] == pytest.approx(13.5)
        until(lambda: telemetry.sample()["power_w"] == 19.78)
    summary = telemetry.summary(1)
    assert summary["power_w"] == pytest.approx({"min": 19.78, "mean": 19.78, "max": 19.78})
    assert summary["joules"] == pytest.approx(19.78 * summary["seconds"])
    assert summary["power_is_of"] == ["VIN"]
    assert summary["rails_w"]["VDD_GPU"]["mean"] == pytest.approx(2)


def test_input_that_is_measured_no_more() -> None:
    """Its other rails do not take its place."""
    others = {"VDD_GPU": 2.0, "VDD_CPU": 3.0}
    samples = [(0, Sample(rails={**others, "VIN": 20.0})), (1, Sample(rails=others)), (2, Sample(rails={**others, "VIN": 20.0}))]
    summary = recorded(*samples).summary(1)
    assert (summary["power_w"]["min"], summary["joules"], summary["power_is_of"]) == (20, 40, ["VIN"])


@pytest.mark.parametrize("program", ["import sys; sys.exit('no such device')", "print('?' * 100_000)", "print('RAM 1/')"])
def test_tegrastats_that_fails(program: str, tmp_path: Path) -> None:
    root = board_of(tmp_path)
    tegrastats(root, program)
    with open_telemetry(root, interval=0.02) as telemetry:
        time.sleep(0.1)
    assert telemetry.summary(1)["power_w"] is None


def test_tegrastats_that_does_not_start(tmp_path: Path) -> None:
    root = board_of(tmp_path)
    write(root / "usr/bin/tegrastats", "not executable")
    with open_telemetry(root, interval=60) as telemetry:
        pass
    assert telemetry.notes == (f"telemetry: {root}/usr/bin/tegrastats does not start: Permission denied; no power is recorded",)


def test_tegrastats_is_left_alone_where_files_have_rails(tmp_path: Path) -> None:
    root = orin_nano(tmp_path)
    tegrastats(root, f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with open_telemetry(root, interval=0.02):
        time.sleep(0.1)
    assert not (tmp_path / "ran").exists()


def test_pmic_of_an_old_nano_is_no_temperature() -> None:
    """It reads 100 degrees at all times."""
    line = parse("RAM 331/3964MB (lfb 758x4MB) CPU [5%@102] CPU@23.5C PMIC@100C")
    assert of_tegrastats(line).temperatures == {"CPU": 23.5}


def test_this_machine() -> None:
    """psutil's load is right from whichever thread it is asked, also from one that asks for the first time."""
    pytest.importorskip("psutil")
    source, samples = Psutil(), []
    assert source().cpu_load is None  # too soon to tell
    for _ in range(2):
        spin(0.3)
        thread = threading.Thread(target=lambda: samples.append(source()))
        thread.start()
        thread.join()
    assert all(sample.cpu_load is not None and 5 < sample.cpu_load <= 100 for sample in samples), samples
    assert all(sample.memory_mb is not None and sample.memory_mb > 50 for sample in samples)


@pytest.mark.parametrize("error", [FileNotFoundError("/proc/cpuinfo"), NotImplementedError("no"), RuntimeError("no")])
def test_psutil_that_cannot_answer(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kernels and containers hide what it reads: those values are unknown, and the rest is there."""
    psutil = pytest.importorskip("psutil")

    def refuse() -> None:
        raise error

    for name in ("cpu_freq", "sensors_temperatures"):
        monkeypatch.setattr(psutil, name, refuse, raising=False)
    with open_telemetry(interval=60) as telemetry:
        time.sleep(0.15)
    assert telemetry.summary(1)["cpu_load"] is not None
    assert telemetry.summary(1)["memory_mb"] is not None


def test_this_machine_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in one line that names the package; the rest is recorded all the same."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with open_telemetry(interval=60) as telemetry:
        pass
    assert telemetry.notes == (NO_PSUTIL,)
    assert "pip install 'edgevit[telemetry]'" in NO_PSUTIL
    assert telemetry.summary(1)["cpu_load"] is None


def test_an_error_in_the_block_ends_the_thread(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_telemetry(tmp_path, interval=0.01):
        raise KeyboardInterrupt
    assert "edgevit telemetry" not in {thread.name for thread in threading.enumerate()}


def test_every_figure_is_in_the_summary() -> None:
    assert set(FIGURES) <= recorded((0, Sample())).summary(0).keys()
    assert telemetry_module.INTERVAL == 1.0  # the preview and the docs say once a second


def tegrastats(root: Path, code: str) -> None:
    import textwrap

    program = root / "usr/bin/tegrastats"
    write(program, f"#!{sys.executable}\n{textwrap.dedent(code)}\n")
    program.chmod(0o755)


def spin(seconds: float) -> None:
    """Keep a core busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def until(fits: object, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
