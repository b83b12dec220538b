"""Serves requests: a thread reads them, and the main thread does the work."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import platform
import threading
import time
import traceback

import psutil

import medptq
from medptq.errors import Cancelled, MedPTQError
from medptq.worker.jobs import Job, JobQueue
from medptq.worker.log import where
from medptq.worker.messages import (
    UNEXPECTED,
    UNKNOWN_METHOD,
    ProtocolError,
    Request,
    failure,
    notification,
    parse,
    refusal,
    result,
)
from medptq.worker.methods import Workshop
from medptq.worker.params import check_params
from medptq.worker.telling import Teller
from medptq.worker.wire import Wire

PROTOCOL = 1
"""Raised when messages change in a way that an older client does not understand."""

_GRACE_SECONDS = 2.0


class Server:
    """The worker, from hello to the end.

    Args:
        wire: To the client.
        log: Is told of requests and stages.
    """

    def __init__(self, wire: Wire, log: logging.Logger) -> None:
        self._wire = wire
        self._log = log
        self._jobs = JobQueue()
        self._workshop = Workshop()
        self._stopping = threading.Lock()
        self._at_once = {"ping": self._ping, "cancel": self._cancel, "shutdown": self._shutdown}

    def serve(self) -> None:
        """Greet the client and do what it asks; returns when :meth:`stop` was called."""
        self._wire.send(
            notification(
                "hello",
                pid=os.getpid(),
                medptq=medptq.__version__,
                protocol=PROTOCOL,
                python=platform.python_version(),
            )
        )
        self._log.info("medptq %s, protocol %d", medptq.__version__, PROTOCOL)
        threading.Thread(target=self._listen, name="wire", daemon=True).start()
        while (job := self._jobs.take()) is not None:
            answer = self._work(job)
            self._jobs.done()
            self._wire.send(answer)
        self._workshop.close()

    def stop(self, reason: str) -> None:
        """Cancel everything and let :meth:`serve` return; after 2 seconds end the process."""
        if not self._stopping.acquire(blocking=False):
            return
        self._log.info("ending: %s", reason)
        threading.Thread(target=_end_later, name="end", daemon=True).start()
        # Where a library holds the interpreter, that thread does not run, but this one does.
        faulthandler.dump_traceback_later(_GRACE_SECONDS + 1, exit=True)
        for job in self._jobs.close():
            self._wire.send(failure(job.id, Cancelled()))

    def _listen(self) -> None:
        while True:
            try:
                line = self._wire.read()
                if line is None:
                    break
                if line.strip():
                    self._receive(parse(line))
            except ProtocolError as error:
                self._log.warning("a message was refused with %d", error.code)
                self._wire.send(refusal(error))
            except OSError:
                break
            except Exception as error:  # a worker that hears nothing any more would be worse
                self._log.error("unexpected fault: %s", where(error))
                self._wire.send(refusal(ProtocolError(UNEXPECTED, "The message was not served")))
        self.stop("stdin has ended")

    def _receive(self, request: Request) -> None:
        """Answer a request at once, or let it wait for its turn."""
        is_work = request.method in self._workshop.methods
        try:
            if not is_work and request.method not in self._at_once:
                raise ProtocolError(UNKNOWN_METHOD, "There is no such method", request.id)
            try:
                check_params(request.method, request.params)
            except ProtocolError as error:
                raise ProtocolError(error.code, str(error), request.id) from None
            if not is_work:
                self._at_once[request.method](request)
            elif request.id is not None:
                self._begin(Job(request.id, request))
        except ProtocolError:
            if request.id is not None:
                raise
            self._log.warning("a notification was ignored")

    def _begin(self, job: Job) -> None:
        """Do a job when its turn comes, or now, where it needs none."""
        if job.request.method in self._workshop.aside:
            threading.Thread(
                target=lambda: self._wire.send(self._work(job)), name="aside", daemon=True
            ).start()
        else:
            self._jobs.put(job)

    def _ping(self, request: Request) -> None:
        running, queued = self._jobs.ids()
        self._answer(request, {"running": running, "queued": queued})

    def _cancel(self, request: Request) -> None:
        request_id = request.params["id"]
        was = self._jobs.cancel(request_id)
        if was == "queued":
            self._wire.send(failure(request_id, Cancelled()))
        self._log.info("request %r: cancelled, it was %s", request_id, was)
        self._answer(request, {"was": was})

    def _shutdown(self, request: Request) -> None:
        self._answer(request, {})
        self.stop("the client asked for it")

    def _answer(self, request: Request, content: dict[str, object]) -> None:
        if request.id is not None:
            self._wire.send(result(request.id, content))

    def _work(self, job: Job) -> bytes:
        """Do a job and return its answer."""
        self._log.info("request %r: %s", job.id, job.request.method)
        started = time.monotonic()
        ended = "done"
        with Teller(job, self._wire, self._log) as teller:
            try:
                method = self._workshop.methods[job.request.method]
                content = method(job.request.params, teller.reporter)
                answer = result(job.id, {**content, "warnings": teller.warnings})
            except MedPTQError as error:
                ended, answer = error.code, failure(job.id, error)
            except (Exception, SystemExit) as error:  # whatever it is, the next job may go well
                traceback.print_exc()
                self._log.error("request %r: %s", job.id, where(error))
                ended, answer = "unexpected fault", failure(job.id, error)
        self._log.info("request %r: %s in %.1f s", job.id, ended, time.monotonic() - started)
        return answer


def end_process(status: int) -> None:
    """End this process and all that it started, at once.

    The usual way out would wait for the thread that reads stdin, and for libraries' threads.
    """
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended by itself
                child.kill()
    logging.shutdown()
    os._exit(status)


def _end_later() -> None:
    time.sleep(_GRACE_SECONDS)
    end_process(1)
