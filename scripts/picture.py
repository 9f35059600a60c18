"""Draw the README's picture, docs/demo.svg: the demonstration's comparison as a terminal shows it."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

from domicile.cli.configs import read_request, write_placement
from domicile.cli.demo import comparison
from domicile.cli.draw import TopologyView
from domicile.demo.story import tell

PICTURE = Path(__file__).parent.parent / "docs" / "demo.svg"
WIDTH = 84


def main() -> None:
    """Run the demonstration and draw it."""
    story = tell(read_request, write_placement, lambda _: None)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(TopologyView(story.domicile.snapshot.topology))
    console.print(comparison(story.xen, story.domicile))
    console.print()
    console.print(*[Text(f"verify: {deviation}", style="red") for deviation in story.deviations[:1]])
    console.save_svg(str(PICTURE), title="domicile demo")


if __name__ == "__main__":
    main()
