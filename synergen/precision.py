"""Which number format the matrix products of a device are computed in."""

import torch

from synergen.errors import unknown_name

PRECISIONS = ("auto", "fp32", "bf16")


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX-512 BF16, AMX, or the Arm extension)."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast_dtype(device: torch.device | str, wish: str = "auto") -> torch.dtype | None:
    """The dtype to run `torch.autocast` with on `device`, or None for plain float32.

    `auto` takes bfloat16 wherever the hardware has it. `bf16` takes it everywhere: correct, but emulated and
    slower than float32 on a processor without the instructions.

    Raises:
        UserError: `wish` is none of auto, fp32, bf16.
    """
    if wish not in PRECISIONS:
        raise unknown_name("precision", wish, PRECISIONS)
    if wish == "fp32":
        return None
    if wish == "bf16":
        return torch.bfloat16
    match torch.device(device).type:
        case "cuda":
            native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        case "cpu":
            native = cpu_has_bf16()
        case _:
            native = False
    return torch.bfloat16 if native else None
