"""Pictures are equal for equal input, take the page's colours, and load nothing."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from nanochat.report.charts import COLOURS, all_charts, reward_chart
from nanochat.report.evidence import Evidence
from nanochat.report.results import build_results


def test_charts_of_a_run(evidence: Evidence) -> None:
    charts = all_charts(evidence, build_results(evidence).summary)
    assert list(charts) == ["base loss", "base bits per byte", "mid loss", "sft loss", "rl", "accuracy"]
    for svg in charts.values():
        root = ElementTree.fromstring(svg.replace(' href="', ' xlink="'))
        assert root.attrib["role"] == "img"
        assert "width" not in root.attrib
        assert not [colour for colour in COLOURS if colour in svg]
        assert "var(--" in svg
        assert "http" not in svg.replace("http://www.w3.org/", "")
    ids = [name for svg in charts.values() for name in re.findall(r'<(?:clipPath|path) id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids)), "two pictures on one page must not share ids"


def test_a_chart_is_reproducible(evidence: Evidence) -> None:
    training = evidence.trainings["rl"]
    assert reward_chart(training, ()) == reward_chart(training, ())
    assert reward_chart(training, ()) != reward_chart(training, ((0, 0.1), (5, 0.2)))
