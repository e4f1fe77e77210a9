"""https://distributed.dask.org/en/stable/client.html: a step of a batch is a task, workers are processes."""

import peer
from distributed import Client, LocalCluster


def main():
    given = peer.arguments()
    with (
        LocalCluster(n_workers=given.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        peer.report(given.report, *peer.measured(lambda: work(client, given)))


def work(client, given):
    prepared = client.map(peer.preprocess, peer.sources(given.data), out=given.out)
    trained = client.map(peer.train, prepared, burn=given.burn)
    return client.gather(client.map(peer.evaluate, prepared, trained))


if __name__ == "__main__":
    main()
