"""Whether a listing gets on, page by page, or a store leads it round in circles. State: one token, two counters, for one pass."""

from __future__ import annotations

# Pages in a row without a name. S3 sends such pages where very much was deleted: some hundreds for a million delete markers.
MAX_BARREN_PAGES = 10_000


class ListingProgress:
    """Finds repeated tokens without remembering all of them, as Brent's algorithm finds cycles: the one that is kept is replaced
    after 1, 2, 4, 8 ... pages, so that a circle of any length is noticed within a few times that length."""

    def __init__(self) -> None:
        self._kept: str | None = None
        self._pages = 0  # since it was kept
        self._span = 1  # for how many pages it is kept
        self._barren = 0

    def goes_on(self, token: str, *, has_names: bool) -> bool:
        """Note the token of the next page; return False if asking for it leads nowhere. `has_names`: this page brought any that
        the pass had not seen."""
        self._barren = 0 if has_names else self._barren + 1
        if token == self._kept or self._barren >= MAX_BARREN_PAGES:
            return False
        self._pages += 1
        if self._pages == self._span:
            self._kept, self._pages, self._span = token, 0, 2 * self._span
        return True
