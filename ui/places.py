"""What the URL says: which tab, which run. The only memory a page has, so that it can be shared."""

from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

TABS = ("detect", "train", "runs", "data")


@dataclass(frozen=True)
class Place:
    """A place in the page; what is not named is empty."""

    tab: str = TABS[0]
    run: str = ""
    others: tuple[str, ...] = ()  # runs that it is compared with: `with=b,c`
    origin: str = ""  # a run whose settings fill the Train form: `from=a`
    images: str = ""  # an imported data set: `set=a`

    @classmethod
    def parse(cls, query: str) -> "Place":
        """Read a URL's query string; what it does not know, it leaves at the default."""
        values = {name: found[-1] for name, found in parse_qs(query.lstrip("?")).items()}
        tab = values.get("tab", "")
        return cls(
            tab if tab in TABS else TABS[0],
            values.get("run", ""),
            names_in(values.get("with", "")),
            values.get("from", ""),
            values.get("set", ""),
        )

    @property
    def url(self) -> str:
        """The query string of this place, for a link."""
        named = {
            "run": self.run,
            "with": ",".join(self.others),
            "from": self.origin,
            "set": self.images,
        }
        parts = {"tab": self.tab} | {name: value for name, value in named.items() if value}
        return "?" + urlencode(parts, safe=",")


def names_in(text: str) -> tuple[str, ...]:
    """`b,c` as names, each once."""
    return tuple(dict.fromkeys(name for name in text.split(",") if name))
