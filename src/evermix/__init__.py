"""evermix decides what data a language model is trained on, from pretraining to instruction tuning.

The public names stand once, in `__init__.pyi`, where type checkers and editors read them too. Each is loaded from its
module when it is first used, so that `import evermix` is fast and needs no torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

from evermix.version import VERSION


def _public_names() -> dict[str, tuple[str, str]]:
    """Public name -> (module, its name there): the imports of the stub beside this file."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: (str(node.module), alias.name) for node in imports for alias in node.names}


_HOMES = _public_names()
__all__ = list(_HOMES)
__version__ = VERSION


def __getattr__(name: str) -> Any:
    """Load `name` from its module at first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'evermix' has no attribute '{name}'")
    module, name_there = _HOMES[name]
    if module == __name__:  # a module of ours: evermix.errors
        return importlib.import_module(f"{module}.{name_there}")
    value = getattr(importlib.import_module(module), name_there)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_HOMES, "__version__"})
