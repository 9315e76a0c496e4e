"""One work of the literature."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Authors, title and place of a work, with its identifiers as text."""

    authors: str
    title: str
    venue: str  # journal or conference, volume, pages
    year: int
    ids: tuple[str, ...] = ()  # "doi:..." and "arXiv:..."

    def __str__(self) -> str:
        where = f"{self.venue}, {self.year}" if self.venue else str(self.year)
        return " ".join([f"{self.authors}. {self.title}. {where}.", *self.ids])
