"""How a store comes to be: ``FORMAT``, read before anything is believed, written before a manifest.

Invariant: before a pack is written the way to publish is known, and before a manifest is, FORMAT
stands. Reading never writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from casinductor.errors import Damaged, NameTaken, ObjectMissing, StoreFormat
from casinductor.store.backend import Backend
from casinductor.store.format import names
from casinductor.store.format.declaration import FORMAT_VERSION, format_file, parse_format
from casinductor.store.parallel import begin

#: How often FORMAT is looked at again before it counts as damaged there.
_SECOND_LOOKS = 5


class Founding:
    """FORMAT of the store behind ``backend``. ``claim`` is told the id of the store that is there,
    or the empty text where there is none.
    """

    def __init__(self, backend: Backend, claim: Callable[[str], None]) -> None:
        self._backend = backend
        self._claim = claim
        self._done = False
        self._missing = False
        self._mode: Callable[[], str] | None = None
        self._written: Callable[[], bytes | None] | None = None

    def problem(self) -> str | None:
        """None if FORMAT is there and readable, else what is wrong with it.

        The backend publishes as FORMAT says from then on. Raises :class:`StoreFormat` if the store
        is of a later format, and what reading raises: a store that does not answer is not damaged.
        """
        try:
            data = self._backend.get(names.FORMAT, 64 << 10)
        except ObjectMissing:
            self._claim("")  # what is known is of a store that is no longer here
            self._missing = True
            return "missing"
        except Damaged as error:
            return f"damaged ({error})"
        try:
            fields = parse_format(data)
        except ValueError as error:
            return f"damaged ({error})"
        if fields["format"] != FORMAT_VERSION:
            raise StoreFormat(
                f"the store {self._backend.url} has format {fields['format']}; this casinductor "
                f"reads format {FORMAT_VERSION}"
            )
        self._claim(str(fields.get("store")))
        if fields["publish"] in self._backend.modes:
            self._backend.mode = str(fields["publish"])
        self._done = True
        return None

    def begin(self) -> None:
        """As :meth:`finish`, but where FORMAT was found missing beside what the caller does
        meanwhile.
        """
        if not self._missing:
            self.finish()
        if self._done or self._written is not None:
            return
        mode = begin(self._backend.probe, self._backend.parallel)
        self._mode = mode
        self._written = begin(lambda: self._write(mode()), self._backend.parallel)

    def finish(self) -> None:
        """Make sure FORMAT is there: probe a new store, heal a damaged file by a fresh one.

        Raises what probing and writing raise.
        """
        if self._done:
            return
        if self._written is None:
            problem = self._problem_that_stays()
            if problem is None:
                return
            mode = self._backend.probe()
            if problem != "missing":
                self._backend.delete(names.FORMAT)
            written = self._write(mode)
        else:
            written, self._written = self._written(), None
        if written is not None:
            self._claim(str(parse_format(written)["store"]))
        elif (problem := self.problem()) not in (None, "missing"):  # another worker was first
            raise Damaged(f"{self._backend.url}/FORMAT is {problem}") from None
        self._done = True  # also where this client does not see the other's yet

    def await_mode(self) -> None:
        """Wait until it is known how to publish; raises what probing raised."""
        if self._mode is not None:
            self._mode()

    def _problem_that_stays(self) -> str | None:
        problem = self.problem()
        for _ in range(_SECOND_LOOKS):
            if problem in (None, "missing"):
                break
            time.sleep(0.1)  # whoever publishes by creating may be just about to write it
            problem = self.problem()
        return problem

    def _write(self, mode: str) -> bytes | None:
        """The FORMAT that was written; None where another worker was first."""
        content = format_file(mode)
        try:
            self._backend.put(names.FORMAT, [content])
        except NameTaken:
            return None
        return content
