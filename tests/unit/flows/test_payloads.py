"""Each kind of the pipeline has a reader, or is refused on purpose; test_adopt shows what they find."""

from __future__ import annotations

import pytest

from artifacts.errors import UsageError
from flows.dag import STAGES
from flows.payloads import reader_of


@pytest.mark.parametrize("kind", sorted({stage.kind for stage in STAGES}))
def test_every_kind_is_known(kind: str) -> None:
    if kind in ("eval", "report"):
        with pytest.raises(UsageError, match="cannot be adopted"):
            reader_of(kind)
    else:
        assert callable(reader_of(kind))
