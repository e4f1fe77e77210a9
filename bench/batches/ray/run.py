"""https://docs.ray.io/en/latest/ray-core/tasks.html: a step of a batch is a task, whose result is an object."""

import os

import peer
import ray

preprocess, train, evaluate = map(ray.remote, (peer.preprocess, peer.train, peer.evaluate))


def whole(source, given):
    prepared = preprocess.remote(source, given.out)
    return evaluate.remote(prepared, train.remote(prepared, given.burn))


def main():
    given = peer.arguments()
    ray.init(num_cpus=given.workers, include_dashboard=False, _temp_dir=os.path.join(os.getcwd(), "ray"))
    work = lambda: ray.get([whole(source, given) for source in peer.sources(given.data)])
    peer.report(given.report, *peer.measured(work))
    ray.shutdown()


if __name__ == "__main__":
    main()
