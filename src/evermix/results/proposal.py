"""ProposalView: an assessed proposal as plain frozen values: what every page, table and notebook shows of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ProposalView(BaseModel):
    """What `AssessedProposal.as_dict` holds; typed field by field when the report is."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    content: dict[str, Any]
