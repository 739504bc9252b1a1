"""What the URL says: which tab, which run. The only memory a page has, so that it can be shared."""

from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

TABS = ("detect", "train", "runs")


@dataclass(frozen=True)
class Place:
    """A place in the page. `run` is empty when none is named."""

    tab: str = TABS[0]
    run: str = ""

    @classmethod
    def parse(cls, query: str) -> "Place":
        """Read a URL's query string; what it does not know, it leaves at the default."""
        values = parse_qs(query.lstrip("?"))
        tab = values.get("tab", [""])[-1]
        return cls(tab if tab in TABS else TABS[0], values.get("run", [""])[-1])

    @property
    def url(self) -> str:
        """The query string of this place, for a link."""
        return "?" + urlencode({"tab": self.tab} | ({"run": self.run} if self.run else {}))
