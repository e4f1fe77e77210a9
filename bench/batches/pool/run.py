"""https://docs.python.org/3/library/multiprocessing.html: a batch is one task."""

import functools
import multiprocessing

import peer


def main():
    given = peer.arguments()
    task = functools.partial(peer.whole, out=given.out, burn=given.burn)
    with multiprocessing.Pool(given.workers) as pool:
        peer.report(given.report, *peer.measured(lambda: pool.map(task, peer.sources(given.data), chunksize=1)))


if __name__ == "__main__":
    main()
