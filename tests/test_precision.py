import pytest
import torch

from synergen import precision
from synergen.errors import UserError
from synergen.precision import autocast_dtype


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),  # AMD Zen 4, Intel Cooper Lake
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),  # Intel Sapphire Rapids
        ({"neon": True, "bf16": True}, torch.bfloat16),  # Armv8.6
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, None),  # Skylake: AVX-512 without bfloat16
        ({}, None),
    ],
)
def test_auto_takes_bfloat16_on_a_cpu_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert autocast_dtype("cpu", "auto") is expected


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bfloat16_on_a_gpu_only_where_it_is_not_emulated(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert autocast_dtype(torch.device("cuda", 0)) is (torch.bfloat16 if native else None)


def test_a_wish_is_granted_whatever_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    assert autocast_dtype("cpu", "bf16") is torch.bfloat16
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    assert autocast_dtype("cpu", "fp32") is None


def test_an_unknown_wish_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match=r"'bf61'.*did you mean 'bf16'"):
        autocast_dtype("cpu", "bf61")
