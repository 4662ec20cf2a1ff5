"""The precision that the hardware is fast with."""

import pytest
import torch

from grapheme_to_phoneme.training.fitting import choose_precision


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16-mixed"),
        ({"avx512_bf16": False, "avx2": True}, "32-true"),
        ({}, "32-true"),
    ],
)
@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_bfloat16_where_the_processor_multiplies_it(
    no_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, bool],
    expected: str,
    accelerator: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision("auto", accelerator) == expected


@pytest.mark.parametrize(("is_supported", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
def test_bfloat16_where_the_gpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, is_supported: bool, expected: str, accelerator: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: is_supported)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    assert choose_precision("auto", accelerator) == expected


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_what_is_asked_for_is_taken(precision: str) -> None:
    assert choose_precision(precision, "auto") == precision
