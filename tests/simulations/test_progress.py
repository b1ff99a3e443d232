"""What a person sees while a simulation runs."""

import io

from rich.console import Console

from cloister_simulations.progress import progress_bars


def shown(*, fails: bool) -> str:
    console = Console(file=io.StringIO(), width=100)
    try:
        with progress_bars(console) as bars:
            if fails:
                raise ValueError
            bars.begin("federated", 20)
            bars.reach(20)
            bars.begin("pooled", 10)
            bars.reach(3)
    except ValueError:
        assert fails
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_part_has_a_bar_with_its_count() -> None:
    lines = [line for line in shown(fails=False).splitlines() if line]
    assert [line.split()[0] for line in lines] == ["federated", "pooled"]
    assert [line.split()[2] for line in lines] == ["20/20", "3/10"]


def test_an_error_before_the_first_part_has_its_line_to_itself() -> None:
    assert shown(fails=True) == ""
