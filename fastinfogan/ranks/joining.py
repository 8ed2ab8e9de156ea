"""How ranks find each other, and how all of them end when one does: with one message.

A rank that fails leaves its error in the store through which the ranks have found each other, and
ends its connections: so the others, whatever they wait for, learn it at once, and find the error.
The first rank tells it; if it doesn't answer, the one that failed does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist

from fastinfogan.errors import TrainingDiverged, UserError, one_line
from fastinfogan.ranks.alone import ALONE, Ranks
from fastinfogan.ranks.place import Place, place_of
from fastinfogan.ranks.several import RankGone, Several

LIMIT_VARIABLE, LIMIT = "FASTINFOGAN_RANKS_WAIT", 600.0  # seconds
_POLL = 0.05
_POSTED = 2.0  # seconds in which a rank that leaves has said why
_HEARD = 10.0  # seconds in which the first rank answers one that leaves
_GONE = 1.0  # the same where nothing but that somebody is gone is known: it may be the first
_KINDS = {kind.__name__: kind for kind in (UserError, TrainingDiverged)}
_times = 0  # that this process has joined others
_now: Several | None = None


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Inside, this process is one of the ranks that torchrun has started, or alone.

    An error that leaves the block on one rank leaves it on all.

    Raises:
        UserError: a rank doesn't come, or is gone; or what was raised on another rank.
    """
    global _times, _now
    place = place_of(os.environ)
    if _now is not None or place.size == 1:
        yield ALONE if _now is None else _now
        return
    _times += 1
    meeting = _meet(place)
    try:
        _now = Several(place, dist.PrefixStore("groups", meeting.store), meeting.limit)
        yield _now
        meeting.part()
        _now.end()
    except BaseException as error:
        found = meeting.leave(error, _now)
        if found is error:
            raise
        raise found from None
    finally:
        _now = None


class _Meeting(NamedTuple):
    """The store, and who has met there."""

    place: Place
    store: dist.Store
    limit: float
    hosts: bool  # whether the store ends with this process

    def part(self) -> None:
        """Return once all ranks are done: none waits for another any more."""
        self.store.add("done", 1)
        self._within(self.limit, lambda: self.store.add("done", 0) == self.place.size)
        self._last_word()

    def _last_word(self) -> None:
        """Need the store no more; the rank that it would end with waits for the others."""
        if self.hosts:
            others = self.place.size - 1
            self._within(_HEARD, lambda: self.store.add("gone", 0) == others)
        else:
            self.store.add("gone", 1)

    def leave(self, error: BaseException, ranks: Several | None) -> BaseException:
        """Let the others know, and return what is to be raised here."""
        first = self.place.rank == 0
        if threading.current_thread() is threading.main_thread():
            # torchrun asks all to end when one has; this one is about to, with a code of its own.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            if not isinstance(error, RankGone):
                self._post(error)
            if ranks is not None:
                ranks.break_off()
            if isinstance(error, RankGone):
                error = UserError(
                    f"a rank is gone, or kept the others waiting for {self.limit:g} s; what is "
                    "saved is safe, and torchrun --max-restarts would go on from there"
                )
                self._within(_POSTED, lambda: self.store.check(["error"]))
                error = self.posted() or error
            left = self.store.add("left", 1)
            if first:
                self.store.set("heard", "")
            else:
                seconds = _HEARD if self.store.check(["error"]) else _GONE
                heard = self._within(seconds, lambda: self.store.check(["heard"]))
                if not heard and left == 1:
                    _tell(error)
            self._last_word()
        except RuntimeError:  # the store has ended with the first rank
            if not first:
                _tell(error)
        return error

    def posted(self) -> Exception | None:
        """What ended another rank, if one has said so."""
        if not self.store.check(["error"]):
            return None
        said = json.loads(self.store.get("error"))
        where = "" if said["rank"] == 0 else f"rank {said['rank']}: "
        return _KINDS.get(said["kind"], UserError)(where + said["message"])

    def _post(self, error: BaseException) -> None:
        kind, message = type(error).__name__, one_line(error)
        if kind not in _KINDS:
            message = f"{kind}: {message}"
        said = {"rank": self.place.rank, "kind": kind, "message": message}
        self.store.compare_set("error", "", json.dumps(said))

    @staticmethod
    def _within(seconds: float, done: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True


def _meet(place: Place) -> _Meeting:
    limit = os.environ.get(LIMIT_VARIABLE, str(LIMIT))
    try:
        seconds = float(limit)
        if not 0 < seconds < 1e6:
            raise ValueError
    except ValueError:
        raise UserError(f"{LIMIT_VARIABLE}={limit}: a number of seconds works") from None
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    # torchrun keeps the store itself, so that it outlives ranks.
    hosts = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = dist.TCPStore(
            address, int(port), None, hosts, timedelta(seconds=seconds),
            wait_for_workers=False, multi_tenant=True,
        )  # fmt: skip
        name = agreed(place, dist.PrefixStore(str(_times), store), seconds)
    except UserError:
        if hosts:  # the others read there what it is
            time.sleep(_GONE)
        raise
    except (RuntimeError, ValueError) as error:
        unmet = UserError(f"MASTER_ADDR={address}, MASTER_PORT={port}: {one_line(error)}")
        if place.rank != 0:
            _tell(unmet)
        raise unmet from None
    return _Meeting(place, dist.PrefixStore(name, store), seconds, hosts)


def agreed(place: Place, store: dist.Store, seconds: float) -> str:
    """A name for a meeting, once all ranks have come to it.

    Others may have met in this store before: torchrun's outlives the ranks that it starts again,
    and each machine counts restarts its own way. So the first makes up a name, the others sign it,
    and it holds for those whose signatures the first has read.
    """
    own, deadline = uuid.uuid4().hex, time.monotonic() + seconds
    if place.rank == 0:
        store.set("name", own)
        keys = [f"{own}/{rank}" for rank in range(1, place.size)]
        while not (whole := store.check(keys)) and time.monotonic() < deadline:
            time.sleep(_POLL)
        signed = [store.get(key).decode() for key in keys if whole or store.check([key])]
        error = "" if whole else (
            f"only {1 + len(signed)} of {place.size} ranks have come within {seconds:g} s; start "
            f"the others, or wait longer with {LIMIT_VARIABLE}=SECONDS"
        )  # fmt: skip
        store.set(f"{own}/answer", json.dumps({"signed": signed, "error": error}))
        if error:
            raise UserError(error)
        return own
    while time.monotonic() < deadline + _HEARD:  # the first gives up first, and says why
        if store.check(["name"]):
            name = store.get("name").decode()
            store.set(f"{name}/{place.rank}", own)
            if store.check([f"{name}/answer"]):
                answer = json.loads(store.get(f"{name}/answer"))
                if own in answer["signed"]:
                    if answer["error"]:
                        raise UserError(answer["error"])
                    return name
        time.sleep(_POLL)
    late = UserError(
        f"rank 0 hasn't come within {seconds:g} s; start it, or wait longer with "
        f"{LIMIT_VARIABLE}=SECONDS"
    )
    _tell(late)
    raise late


def _tell(error: BaseException) -> None:
    """What the first rank doesn't tell, on the standard error that this rank was given."""
    with contextlib.suppress(OSError, AttributeError):
        print(f"fastinfogan: error: {one_line(error)}", file=sys.__stderr__, flush=True)
