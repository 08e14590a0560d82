"""Results of which people are shown less than machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class InBrief(dict[str, Any]):
    """All of a result, and in `brief` what a person sees of it."""

    def __init__(self, result: Mapping[str, Any], brief: Mapping[str, Any]):
        super().__init__(result)
        self.brief = brief
