"""The verb `explore`: its arguments, and the calls that it makes."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from object2vec.errors import UserError
from object2vec.prepare.command import progress
from object2vec.retrieval.command import Verb

PORT: Final = 8501


def _add(parser: argparse.ArgumentParser, **types: Callable[[str], Any]) -> None:
    """Add the arguments of the verb; `types` are those of paths and counts."""
    text = "table of the objects (default: the model's index, else the values that the model knows)"
    parser.add_argument("--objects", type=types["streamed"], metavar="TABLE", help=text)
    text = "side of the objects (default: in1 if there are such objects, else in0)"
    parser.add_argument("--side", choices=("in0", "in1"), help=text)
    text = "write one HTML file that works offline, and do not serve"
    parser.add_argument("--export", type=types["output"], metavar="FILE", help=text)
    text = "port of this machine to listen on (default: %(default)s)"
    parser.add_argument("--port", type=types["count"], default=PORT, metavar="N", help=text)


def _explore(model: Any, arguments: argparse.Namespace) -> None:
    """Run the verb.

    Raises:
        UserError: the objects cannot be read, or the port cannot be used.
    """
    from object2vec.archive import find_model
    from object2vec.data.files import local_path, write_output
    from object2vec.explore.export import to_html
    from object2vec.explore.live_map import LiveMap
    from object2vec.explore.map_data import build_map

    data = build_map(model, arguments.side, arguments.objects, name=Path(str(arguments.model)).name)
    live = LiveMap(data, find_model(model.predictor.directory))
    if arguments.export:
        with progress("projecting", total := data.metadata["count"]) as moved:
            live.finish(steps(moved, total))
        write_output(local_path(arguments.export, output=True), to_html(live.data))
        sys.stdout.write(f"written: {arguments.export}, a map of {data.metadata['count']:,} objects\n")
        return
    from werkzeug.serving import make_server

    from object2vec.explore.application import create_app

    try:
        server = make_server("127.0.0.1", arguments.port, create_app(live, model), threaded=True)
    except (OSError, SystemExit) as error:
        raise UserError(f"port {arguments.port} is in use; name another one with --port") from error
    sys.stdout.write(f"http://127.0.0.1:{arguments.port}/ shows {data.metadata['count']:,} objects; Ctrl-C ends it\n")
    sys.stdout.flush()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would log each request
    live.start()
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def steps(moved: Callable[[int], object], total: int) -> Callable[[float], None]:
    """Return a function of the share that is done, which calls `moved` with each further part of `total`."""
    done = 0

    def update(share: float) -> None:
        nonlocal done
        moved(int(total * share) - done)
        done = int(total * share)

    return update


EXPLORE: Final = Verb(
    help="show the objects of a model on a map",
    description="Serve a page on this machine with the objects of a model on a map, or write it to a file.",
    add=_add,
    run=_explore,
)
