"""Numbers as people read them."""

from __future__ import annotations

import pytest

from nanochat.report import formatting


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (formatting.number("accuracy", 0.6123), "61.2%"),
        (formatting.number("val_bpb", 1.8349), "1.835"),
        (formatting.interval("accuracy", 0.571, 0.651), "57.1 – 65.1%"),
        (formatting.interval("token_f1", 0.4, 0.44), "0.400 – 0.440"),
        (formatting.interval("val_bpb", None, None), ""),
        (formatting.change("accuracy", 0.14), "+14.0 pp"),
        (formatting.change("val_bpb", -0.05), "−0.050"),
        (formatting.count(9999), "9,999"),
        (formatting.count(12_345), "12.3 K"),
        (formatting.count(3_400_000), "3.4 M"),
        (formatting.count(1.2e9), "1.2 B"),
        (formatting.size(999), "999 B"),
        (formatting.size(1_500_000_000), "1.5 GB"),
        (formatting.size(2e15), "2000.0 TB"),
        (formatting.duration(41.6), "42 s"),
        (formatting.duration(200), "3 min 20 s"),
        (formatting.duration(7500), "2 h 05 min"),
    ],
)
def test_numbers(text: str, wanted: str) -> None:
    assert text == wanted
