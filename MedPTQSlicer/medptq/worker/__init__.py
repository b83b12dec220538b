"""The worker: medptq's verbs for another program, in a process that is kept warm.

``python -m medptq.worker [--parent PID] [--log FILE]`` speaks JSON-RPC 2.0 on stdin and stdout, one
message a line, in ASCII. Give it absolute paths, and read its stderr, where libraries print.

To the worker, with an ``id`` (a string or a whole number) and ``params`` by name:

=============  ==============================================================================
Method         Params; all but those marked with ? must be given
=============  ==============================================================================
``models``     none
``import``     path, of what ``medptq import`` takes: network with card, folder or zip
``remove``     model, what? ("int8" or "all", which it is by default)
``clear``      none; deletes the cache
``inspect``    scans, channels? (1 by default)
``doctor``     none
``load``       model
``quantize``   model, scans, output? (the library by default), overwrite?,
               recipe? {observer?, percentile?, patches?, seed?}
``segment``    network, scan, output, engine?, precision? ("best" by default), overwrite?
``compare``    model, quantized? (the twin in the library by default), scan, output, reference?,
               overwrite?
``release``    none; closes the networks that are kept open
``cancel``     id, of another request
``ping``       none
``shutdown``   none; cancels everything and ends
=============  ==============================================================================

They mean what they mean in :mod:`medptq.api`, :mod:`medptq.housekeeping` and
:mod:`medptq.scans.inspecting`; the results are those of the command line's ``--json``, which
:mod:`medptq.answers` describes, with the request's ``warnings``. A network is named by its id or
by a path; in ``segment``, an id stands for the network with its INT8 twin in the library.
``remove`` and ``clear`` close the networks that are kept open first. ``models`` and the last three
are answered at once; the others queue and run one at a time. A network that ``segment`` used stays
open for the next time, when its result says ``"warm": true``.

From the worker, beside the answers:

=============  ==============================================================================
Notification   Params
=============  ==============================================================================
``hello``      pid, medptq, protocol, python; the first line
``progress``   id, stage, done, total, fraction, eta_seconds (or null)
``warning``    id, text
``heartbeat``  id, stage, elapsed_seconds; when a request begins, and every 2 seconds as it runs
=============  ==============================================================================

Errors have the codes of JSON-RPC; -32000 for a failure that a user can mend, -32800 for a request
that was cancelled. These two and -32603 carry ``data`` {code, what, why, todo}. What differs from
JSON-RPC: no batches, and notifications that ask for work are ignored, as nobody could cancel them.

The worker ends when stdin does, when its parent or the process ``--parent`` ends, and on SIGTERM.
It cancels what runs, and does not wait for longer than 2 seconds.
"""
