"""The report: one page that needs nothing else, and says what is true."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import jinja2
import jinja2.meta
import pytest
from classics import CLASSICS, dense, derived, kumar, naive
from click.testing import CliRunner
from zoo import ZOO

from symprop import cli, templating
from symprop.derivation import differentiate
from symprop.errors import DescriptionError, OptionError, OutputError
from symprop.explain import pages
from symprop.explain.drawing import chart, network_drawing, units
from symprop.explain.lines import explain, find_line
from symprop.explain.report import History, report, write
from symprop.explain.worked import work
from symprop.network import Network

HISTORY = History((0, 1, 2), (1.0, 0.5, 0.25), (2.0, 1.0, 0.5))
VERIFIED = SimpleNamespace(
    ok=True,
    dtype="float64",
    points=("moderate",),
    rows=(SimpleNamespace(kind="loss", name="E", error=0.5, allowed=9.0, checked=3, ok=True),),
    agreements=(SimpleNamespace(method="central differences", difference=1e-40),),
)
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Outline(HTMLParser):
    """Checks that every tag is closed; collects headings and what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.levels: list[int] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(build: Any) -> str:
    derivation = derived(build)
    return report(derivation, worked=work(derivation), verification=VERIFIED, training=HISTORY).html


@pytest.mark.parametrize("build", CLASSICS)
def test_the_page_is_whole_and_needs_no_network(build: Any) -> None:
    html = page_of(build)
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    assert outline.levels[0] == 1
    steps = zip(outline.levels, outline.levels[1:], strict=False)
    assert all(after <= before + 1 for before, after in steps), "a level of headings is skipped"
    assert all(link.startswith("#") for link in outline.links)
    assert "<script" not in html
    assert "@import" not in html
    assert "url(" not in html.replace("url(#tip)", "")
    for anchor in outline.links:
        assert f'id="{anchor[1:]}"' in html


def test_on_paper_rows_stay_rows() -> None:
    styles = (Path(__file__).parents[1] / "templates" / pages.TEMPLATE).read_text()
    screen, paper = styles.split("@media print")
    assert "table.steps tr { display: flex" in screen.split("@media screen and (max-width: ")[1]
    assert "tr, figure, .card { break-inside: avoid; }" in paper
    assert "display: grid" not in paper


def test_the_page_tells_the_worked_step_and_its_update() -> None:
    html = page_of(kumar)
    assert "0.08216704" in html  # dE/dw5
    assert "0.35891648" in html  # w5 after the step
    assert "Path 2 of 2: E ← y2out ← y2 ← H1out ← H1 ← w1" in html
    assert '<span class="ok">verified</span>' in html
    assert "went from 1 to 0.25" in html
    assert "prefers-color-scheme: dark" in html


def test_a_wrong_kernel_is_not_called_verified() -> None:
    wrong = SimpleNamespace(**{**vars(VERIFIED), "ok": False})
    html = report(derived(kumar), verification=wrong).html
    assert '<span class="wrong">NOT verified</span>' in html
    assert "A worked step" not in html  # there are no numbers


def test_rewrites_come_with_their_reason() -> None:
    html = page_of(naive)
    (rewrite, *_) = derived(naive).rewrites
    assert rewrite.reason.replace("'", "&#x27;") in html
    assert "Nothing was rewritten" in page_of(kumar)


def test_units_are_the_neurons_of_the_textbook() -> None:
    found = {unit.name: unit for unit in units(derived(kumar))}
    assert list(found) == ["x1", "x2", "H1out", "H2out", "y1out", "y2out", "E"]
    assert found["y1out"].sources == {"H1out": ("w5",), "H2out": ("w6",)}
    assert (found["H1out"].net, found["H1out"].function) == ("H1", "σ")
    assert found["H1out"].biases == ("b1",)
    assert [found[name].depth for name in ("x1", "H1out", "y1out", "E")] == [0, 1, 2, 3]
    assert found["E"].targets == ("t1", "t2")


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_network_can_be_drawn(name: str) -> None:
    picture = network_drawing(differentiate(ZOO[name]()))
    root = ElementTree.fromstring(picture)
    assert root.get("role") == "img"
    left, top, width, height = map(float, str(root.get("viewBox")).split())
    for shape in root.iter("circle"):
        assert left <= float(shape.get("cx", "nan")) <= width
        assert top <= float(shape.get("cy", "nan")) <= height


def test_charts_are_logarithmic_where_losses_fall_far() -> None:
    assert "10⁻⁴" in chart([1.0, 1e-2, 1e-4], "Loss")
    plain = chart([1.0, 0.9, 0.8], "Loss")
    assert "10⁻" not in plain
    assert ElementTree.fromstring(plain).find("polyline") is not None
    assert ElementTree.fromstring(chart([0.0, 0.0], "Loss")) is not None
    assert ElementTree.fromstring(chart([1.0, float("nan")], "Loss")) is not None


def test_names_are_escaped() -> None:
    html = pages.html_page("<b>&", "", [pages.Block("a", "x < y", "<p>fine</p>")])
    assert "&lt;b&gt;&amp;" in html
    assert "x &lt; y" in html
    assert "<p>fine</p>" in html


def test_the_template_reads_exactly_its_context() -> None:
    environment = templating.environment(autoescape=True)
    loader = environment.loader
    assert isinstance(loader, jinja2.FileSystemLoader)
    source, _, _ = loader.get_source(environment, pages.TEMPLATE)
    read = jinja2.meta.find_undeclared_variables(environment.parse(source))
    assert read == {"title", "subtitle", "blocks", "version"}


def test_only_reports_are_overwritten(tmp_path: Path) -> None:
    done = report(derived(dense))
    path = write(done, tmp_path / "sub" / "report.html")
    assert write(done, path).read_text().startswith("<!DOCTYPE html>")
    path.write_text("my notes")
    with pytest.raises(OutputError, match="no report of symprop"):
        write(done, path)
    assert path.read_text() == "my notes"
    write(done, path, force=True)
    assert "<svg" in path.read_text()


def test_the_command_writes_a_report_with_kernels_verified_and_trained(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    done = CliRunner().invoke(cli.cli, ["report", "one_neuron", "-o", str(path)])
    assert done.exit_code == 0, done.output
    html = path.read_text()
    assert '<span class="ok">verified</span>' in html
    assert "60 epochs of sgd" in html
    assert "from 0.0259162 to " in html  # the first loss of the text's table, 0.0259


# explain FILE.py:LINE


def generated(network: Network, folder: Path) -> Path:
    from symprop.lower import lower
    from symprop.optimizers import find
    from symprop.options import Options
    from symprop.render import render

    derivation = differentiate(network)
    options = Options("float64", find("adam"))
    path = folder / f"{network.name}.py"
    path.write_text(render(derivation, lower(derivation, options.dtype), options))
    return path


def line_with(path: Path, part: str, *, after: str = "def _gradient") -> int:
    lines = path.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if after in line)
    return next(n for n in range(start, len(lines)) if part in lines[n]) + 1


def test_a_line_of_a_kernel_is_explained(tmp_path: Path) -> None:
    path = generated(derived(kumar).network, tmp_path)
    number = line_with(path, "g_w5 +=")
    told = str(explain(find_line(path, number), derived(kumar)))
    assert "It computes dE/dw5 = H1out*dE/dy1" in told
    assert "gradient of the parameter w5" in told
    assert "Chain rule: dE/dw5 = dE/dy1 * dy1/dw5" in told
    number = line_with(path, "# dE/dH1 =") + 1
    told = str(explain(find_line(path, number), derived(kumar)))
    assert "a factor of the gradients of w1, w2, b1" in told
    assert "dsigmoid(z)/dz = sigmoid(z)*(1 - sigmoid(z))" in told


def test_lines_of_the_frame_and_of_other_networks(tmp_path: Path) -> None:
    path = generated(derived(kumar).network, tmp_path)
    assert "computes no equation" in str(explain(find_line(path, 1), derived(kumar)))
    number = line_with(path, "w5 -= ", after="def _stretch")
    assert explain(find_line(path, number), derived(kumar)).role == "update"
    with pytest.raises(OptionError, match="with the fingerprint"):
        explain(find_line(path, 1), derived(dense))
    with pytest.raises(OptionError, match="has the lines 1 to"):
        find_line(path, 10**6)
    (tmp_path / "foreign.py").write_text("x = 1\n")
    with pytest.raises(DescriptionError, match="not generated by symprop"):
        find_line(tmp_path / "foreign.py", 1)
