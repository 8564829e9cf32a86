"""Every form of a tegrastats line, JetPack 4 to 7, as boards printed them."""

from __future__ import annotations

import pytest

from edgevit.device.tegrastats import Tegrastats, parse

NANO_JP4 = (
    "RAM 331/3964MB (lfb 758x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [12%@102,3%@102,0%@102,7%@102] "
    "EMC_FREQ 3%@204 GR3D_FREQ 41%@76 APE 25 PLL@20.5C CPU@23.5C PMIC@100C GPU@22.5C AO@27.5C thermal@23C "
    "POM_5V_IN 933/933 POM_5V_GPU 0/0 POM_5V_CPU 84/105"
)
AGX_ORIN_JP5 = (
    "01-03-2023 16:07:54 RAM 2257/30536MB (lfb 5392x4MB) SWAP 0/15268MB (cached 0MB) CPU [5%@729,off,off,off,1%@729,0%@729,"
    "0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@204 GR3D_FREQ 9%@0 GR3D2_FREQ 4%@0 NVJPG1 729 VIC_FREQ 115 APE 233 "
    "CV0@-256C CPU@41.437C Tboard@29C SOC2@39.062C Tdiode@30.75C SOC0@39.031C CV1@-256C GPU@-256C tj@41.656C SOC1@38.937C "
    "CV2@-256C VDD_GPU_SOC 2390mW/2390mW VDD_CPU_CV 796mW/796mW VIN_SYS_5V0 3522mW/3522mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
AGX_ORIN_JP5_USER = (
    "01-03-2023 16:07:54 RAM 2257/30536MB (lfb 5392x4MB) SWAP 0/15268MB (cached 0MB) CPU [5%@729,1%@729] EMC_FREQ 0% "
    "GR3D_FREQ 9% VIC_FREQ 115 APE 233 CPU@41.437C tj@41.656C"
)
ORIN_NANO_JP7 = (
    "09-19-2026 13:33:03 RAM 2845/7486MB (lfb 33x4MB) CPU [1%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 3%@665 "
    "GR3D_FREQ 0%@[305] NVDEC0 off NVJPG0 off NVJPG1 off VIC off OFA off APE 200 cpu@45.375C/45.812C soc2@44.687C/44.843C "
    "soc0@46.25C/46.25C gpu@46.562C/46.843C tj@46.562C/46.843C soc1@46.281C/46.281C VDD_IN 3462mW/3522mW/3582mW "
    "VDD_CPU_GPU_CV 442mW/483mW/523mW VDD_SOC 1127mW/1127mW/1127mW"
)
AGX_ORIN_JP7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,0%@2201,1%@2201,0%@2201,0%@2201,0%@2201,0%@2201,"
    "0%@2201,0%@2201,0%@2201,2%@2201] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off NVJPG1 off "
    "VIC off OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C "
    "soc0@49.531C/49.531C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW "
    "VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
THOR_JP7 = (
    "04-21-2026 15:50:52 RAM 105265/125772MB (lfb 34x4MB) CPU [0%@972,0%@972,3%@972,0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,"
    "0%@972,0%@972,0%@972,0%@972,1%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,314,314] NVENC0_FREQ @314 NVENC1_FREQ @314 "
    "NVDEC0_FREQ @314 NVDEC1_FREQ @314 NVJPG0_FREQ @314 VIC off OFA_FREQ @315 PVA0_FREQ off APE 300 cpu@37.343C tj@38.875C "
    "soc012@37.468C gpu@38.875C soc345@37.406C VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW "
    "VIN 19780mW/19780mW"
)
EVERY = (NANO_JP4, AGX_ORIN_JP5, AGX_ORIN_JP5_USER, ORIN_NANO_JP7, AGX_ORIN_JP7, THOR_JP7)


def parsed(line: str) -> Tegrastats:
    found = parse(line)
    assert found is not None
    return found


def test_nano_jetpack_4() -> None:
    """No date, no units of power; the internal RAM's kB field is not the memory."""
    assert parsed(NANO_JP4) == Tegrastats(
        ram_used=331, ram_total=3964, largest_free=4, swap_used=0, swap_total=1982,
        cpu_load=(12, 3, 0, 7), cpu_mhz=(102,) * 4, gpu_load=41, gpu_mhz=76, memory_load=3, memory_mhz=204,
        engines={"APE": 25},
        temperatures={"PLL": 20.5, "CPU": 23.5, "PMIC": 100, "GPU": 22.5, "AO": 27.5, "thermal": 23},
        rails={"POM_5V_IN": 0.933, "POM_5V_GPU": 0, "POM_5V_CPU": 0.084},
    )  # fmt: skip


def test_agx_orin_jetpack_5() -> None:
    """Cores that are off, sensors that are off, inputs that are not connected."""
    found = parsed(AGX_ORIN_JP5)
    assert found.cpu_load == (5, None, None, None, 1, *(0,) * 7)
    assert found.cpu_mhz == (729, None, None, None, *(729,) * 8)
    assert (found.gpu_load, found.gpu_mhz) == (9, 0)
    assert found.engines == {"NVJPG1": 729, "VIC": 115, "APE": 233}
    assert found.temperatures == {
        "CPU": 41.437, "Tboard": 29, "SOC2": 39.062, "Tdiode": 30.75, "SOC0": 39.031, "tj": 41.656, "SOC1": 38.937
    }  # fmt: skip
    assert found.rails == {"VDD_GPU_SOC": 2.39, "VDD_CPU_CV": 0.796, "VIN_SYS_5V0": 3.522, "VDDQ_VDD2_1V8AO": 0.301}


def test_without_root() -> None:
    """Loads without clocks, and no rails."""
    found = parsed(AGX_ORIN_JP5_USER)
    assert (found.gpu_load, found.gpu_mhz, found.memory_load, found.memory_mhz, found.rails) == (9, None, 0, None, {})


def test_orin_nano_jetpack_7() -> None:
    """No swap; the clock in brackets; what stands after a slash is a mean or a maximum, never the value."""
    assert parsed(ORIN_NANO_JP7) == Tegrastats(
        ram_used=2845, ram_total=7486, largest_free=4, swap_used=None, swap_total=None,
        cpu_load=(1, 0, 0, 0, 0, 0), cpu_mhz=(729,) * 6, gpu_load=0, gpu_mhz=305, memory_load=3, memory_mhz=665,
        engines={"NVDEC0": None, "NVJPG0": None, "NVJPG1": None, "VIC": None, "OFA": None, "APE": 200},
        temperatures={"cpu": 45.375, "soc2": 44.687, "soc0": 46.25, "gpu": 46.562, "tj": 46.562, "soc1": 46.281},
        rails={"VDD_IN": 3.462, "VDD_CPU_GPU_CV": 0.442, "VDD_SOC": 1.127},
    )  # fmt: skip


def test_agx_orin_jetpack_7() -> None:
    found = parsed(AGX_ORIN_JP7)
    assert (found.gpu_load, found.gpu_mhz, found.largest_free, len(found.cpu_load)) == (12, 1300, 2, 12)
    assert set(found.engines.values()) == {None, 174}
    assert "PVA0" in found.engines
    assert found.rails == {"VDD_GPU_SOC": 5.139, "VDD_CPU_CV": 3.268, "VIN_SYS_5V0": 5.5}


def test_thor() -> None:
    """Clocks of three clusters, and no load of the GPU."""
    found = parsed(THOR_JP7)
    assert (found.gpu_load, found.gpu_mhz) == (None, 314)
    assert found.engines["NVENC1"] == 314
    assert found.engines["OFA"] == 315
    assert found.rails == {"VDD_GPU": 1.962, "VDD_CPU_SOC_MSS": 5.887, "VIN_SYS_5V0": 5.635, "VIN": 19.78}


def test_memory_in_kilobytes() -> None:
    """Some print kB."""
    found = parsed("RAM 2048/4096kB (lfb 2x512kB) CPU [1%@100]")
    assert (found.ram_used, found.ram_total, found.largest_free) == (2, 4, 0.5)


@pytest.mark.parametrize("line", ["", "\n", "tegrastats: permission denied", "RAM ", "CPU [1%@100]"])
def test_other_lines(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize("line", EVERY)
def test_torn_line(line: str) -> None:
    """Cut anywhere, it is no line or has fewer values; no value is made up, but for the last number, which may lack digits."""
    whole = parsed(line)
    for end in range(len(line)):
        found = parse(line[:end])
        if found is None:
            continue
        assert (found.ram_used, found.ram_total) == (whole.ram_used, whole.ram_total)
        assert set(found.rails) <= set(whole.rails)
        changed = [name for name, watts in found.rails.items() if watts != whole.rails[name]]
        assert not changed or line[:end].rstrip("0123456789mW/").endswith(changed[0] + " ")
