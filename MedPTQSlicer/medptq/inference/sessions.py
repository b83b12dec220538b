"""Sessions that stay open between uses, so that only the first use pays for loading."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from medptq.engines.cache import build_digest, open_session
from medptq.engines.protocol import Engine, Precision, Session
from medptq.errors import Cancelled, OutputError, ScanError
from medptq.inference.networks import Network, request_for
from medptq.progress import Reporter

# A network in FP32 and in INT8, and the one that finds its crop.
_MOST = 3


@dataclass
class _Held:
    session: Session
    users: int = 0


class SessionPool:
    """Opens sessions and keeps the last few, to be handed out again.

    A session is told by all that decides its build, the graph's content among it: a network whose
    file was changed is opened anew. For one thread at a time. Use it as a context manager, which
    closes what it holds.

    Attributes:
        opened: How many sessions were opened so far. If it stays, a use was warm.

    Example:
        >>> with SessionPool() as pool:                                         # doctest: +SKIP
        ...     with pool.session(network, engine, "int8", reporter) as session:
        ...         output = session.run(batch)
    """

    def __init__(self) -> None:
        self.opened = 0
        self._held: dict[str, _Held] = {}  # the one that was used last comes last

    @contextlib.contextmanager
    def session(
        self,
        network: Network,
        engine: Engine,
        precision: Precision,
        reporter: Reporter,
        windows: int = 1,
    ) -> Iterator[Session]:
        """Yield a session for so many windows at a time, which stays open when the block ends.

        Where the block fails by the engine's or the program's own fault, the session is closed
        and not handed out again.

        Raises:
            ModelError: INT8 is asked of a network that was not quantized, or a graph is broken.
            EngineError: The engine cannot run it.
        """
        request = request_for(network, precision, windows)
        key = build_digest(engine, request)
        held = self._held.pop(key, None)
        if held is None:
            self._make_room()
            held = _Held(open_session(engine, request, reporter))
            self.opened += 1
        self._held[key] = held
        held.users += 1
        try:
            yield held.session
        except (ScanError, OutputError, Cancelled):
            raise
        except BaseException:
            if self._held.pop(key, None) is not None:
                held.session.close()
            raise
        finally:
            held.users -= 1

    def close(self) -> int:
        """Close every session and return how many there were; the pool can be used again."""
        count = len(self._held)
        while self._held:
            self._held.popitem()[1].session.close()
        return count

    def __enter__(self) -> SessionPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_room(self) -> None:
        idle = [key for key, held in self._held.items() if held.users == 0]
        for key in idle[: max(len(self._held) - _MOST + 1, 0)]:
            self._held.pop(key).session.close()
