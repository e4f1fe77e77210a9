"""One process that does one batch after the other."""

import peer


def main():
    given = peer.arguments()
    work = lambda: [peer.whole(source, given.out, given.burn) for source in peer.sources(given.data)]
    peer.report(given.report, *peer.measured(work))


if __name__ == "__main__":
    main()
