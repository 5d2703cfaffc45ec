"""Ranks as Ray Train and tf.distribute give them: real processes, each of which gets its part of every epoch."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap

import pytest

import fastshard as fs

ROWS, BATCH, WORLD = 43, 4, 2


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks") / "ds"
    fs.pack(({"n": n} for n in range(ROWS)), path)
    return fs.open(path)


def order(ds, epoch):
    loader = fs.Loader(ds, BATCH, shuffle=True, seed=5)
    return [n for batch in loader.iterate(epoch=epoch) for n in batch["n"].tolist()]


def check(ds, ranks, epochs=2):
    """Sample i of rank r stands at i * world + r of each epoch; the first ones again where they do not share evenly."""
    for epoch in range(epochs):
        wanted = order(ds, epoch)
        together = [n for step in zip(*(seen[epoch] for seen in ranks), strict=True) for n in step]
        assert together == [*wanted, wanted[0]]


def start(code, *arguments, **environment):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment, **pipes)


def finish(*processes):
    """What they say in their last lines."""
    try:
        outputs = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()  # those that wait for one that failed
    for process, (_, said) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, said
    return [out.splitlines()[-1] for out, _ in outputs]


LATE = """
    import json, sys
    import torch.distributed as dist
    import torch.multiprocessing as mp
    from torch.utils.data import DataLoader
    import fastshard as fs

    def flat(batches):
        return [n for batch in batches for n in batch["n"].tolist()]

    def make(path, **options):
        return fs.torch.ShardDataset(fs.Loader(path, 4, shuffle=True, seed=5, num_threads=1, **options))

    def work(rank, path, out, passed):
        made, alone = make(path), make(path, world_size=1)
        long = fs.Loader(path, 30, drop_last=True)
        tensors = fs.torch.TensorLoader(path, batch_size=4, shuffle=True, seed=5)
        lengths = [len(made), len(alone), len(long)]
        first = flat([next(iter(made))])
        dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=2)
        passes = {
            "seen": [flat(made) for _ in range(2)],
            "pickled": [flat(passed) for _ in range(2)],
            "tensors": [[n for (ns,) in tensors for n in ns.tolist()] for _ in range(2)],
            "workers": [flat(DataLoader(make(path), None, num_workers=2, multiprocessing_context="fork"))],
            "spawned": [flat(DataLoader(made, None, num_workers=1, multiprocessing_context="spawn"))],
        }
        lengths += [len(made), len(alone)]
        try:
            iter(long)
        except ValueError as error:
            passes["refused"] = str(error)
        passes["plan"] = made.loader.plan()
        passes["state"] = made.loader.for_rank(0, 2).state_dict() == made.loader.state_dict()
        source = iter(made)
        next(source), next(source)
        passes["samples"] = made.state_dict()["samples"]
        dist.destroy_process_group()
        with open(f"{out}/{rank}.json", "w") as file:
            json.dump(passes | {"lengths": lengths, "first": first, "alone": flat(alone)}, file)

    if __name__ == "__main__":
        _, path, out, method = sys.argv
        mp.start_processes(work, (path, out, make(path)), nprocs=2, start_method=method)
"""


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_of_a_process_group_younger_than_the_loader(ds, tmp_path, method):
    script = tmp_path / "late.py"
    script.write_text(textwrap.dedent(LATE))
    command = [sys.executable, "-W", "ignore", script, ds.path, tmp_path, method]
    subprocess.run(command, check=True, timeout=200, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(WORLD)]
    for name in ("seen", "pickled", "tensors"):
        check(ds, [one[name] for one in found])
    check(ds, [one["workers"] for one in found], epochs=1)
    third = [n for step in zip(*(one["spawned"][0] for one in found), strict=True) for n in step]
    assert third[:ROWS] == order(ds, 2)
    for one in found:
        assert one["lengths"] == [11, 11, 1, 6, 11]
        assert one["first"] == order(ds, 0)[:BATCH]  # as yet alone
        assert one["alone"] == order(ds, 0)
        assert one["samples"] == 2 * BATCH * WORLD
        assert "batch_size=30 on 2 ranks needs 60" in one["refused"]
        assert one["state"]
    assert ["on rank 0 of 2" in one["plan"] for one in found] == [True, False]


RAY = """
    import json, sys
    from pathlib import Path
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    import fastshard as fs
    path, out = sys.argv[1:]

    def work(config):
        from fastshard._load import ranks

        loader = fs.Loader(config["path"], 4, shuffle=True, seed=5, num_threads=1)
        dataset = fs.torch.ShardDataset(loader)
        seen = [[n for batch in dataset for n in batch["n"].tolist()] for _ in range(2)]
        # Ray says the same by itself, for what trains without torch.distributed.
        found = {"seen": seen, "ray": ranks._ray(), "loader": [loader._spec["rank"], loader._spec["world_size"]]}
        Path(config["out"], f"{ray.train.get_context().get_world_rank()}.json").write_text(json.dumps(found))

    driver = fs.Loader(path, 4)._spec
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    scaling = ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    storage = ray.train.RunConfig(storage_path=out, name="run")
    config = {"path": path, "out": out}
    torch = TorchConfig(backend="gloo")
    TorchTrainer(
        work, train_loop_config=config, torch_config=torch, scaling_config=scaling, run_config=storage
    ).fit()
    ray.shutdown()
    print(json.dumps([driver["rank"], driver["world_size"]]))
"""


@pytest.mark.slow
def test_of_ray_train(ds, tmp_path):
    pytest.importorskip("ray.train", exc_type=ImportError)
    # Ray puts sockets there, whose paths have to be short.
    with tempfile.TemporaryDirectory(prefix="ray") as short:
        quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": short}
        (driver,) = finish(start(RAY, ds.path, tmp_path, HOME=str(tmp_path), **quiet))
    assert json.loads(driver) == [0, 1]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(WORLD)]
    for rank, one in enumerate(found):
        assert one["loader"] == one["ray"] == [rank, WORLD]
    check(ds, [one["seen"] for one in found])


WORKER = """
    import json, os, sys
    import tensorflow as tf
    import fastshard as fs
    # It has to be there before anything else of TensorFlow.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    loader = fs.Loader(sys.argv[1], 4, shuffle=True, seed=5, num_threads=1)
    contexts = []

    def pipeline(context):
        contexts.append((context.input_pipeline_id, context.num_input_pipelines))
        return fs.tensorflow.dataset(loader, input_context=context)

    data = strategy.distribute_datasets_from_function(pipeline)

    @tf.function
    def total(batch):
        return strategy.reduce("SUM", strategy.run(lambda batch: tf.reduce_sum(batch["n"]), args=(batch,)), axis=None)

    seen, sums = [], []
    for _ in range(2):
        seen.append([])
        for batch in data:
            seen[-1] += strategy.experimental_local_results(batch["n"])[0].numpy().tolist()
            sums.append(int(total(batch)))
    print(json.dumps({"seen": seen, "contexts": contexts, "sums": sums}))
"""


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_of_tf_distribute(ds):
    """Two processes that add up over the network what each of them reads: in step, to the end of each epoch."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(WORLD)]}
    configs = [{"cluster": cluster, "task": {"type": "worker", "index": rank}} for rank in range(WORLD)]
    workers = [start(WORKER, ds.path, TF_CONFIG=json.dumps(config)) for config in configs]
    found = [json.loads(said) for said in finish(*workers)]
    assert [one["contexts"] for one in found] == [[[rank, WORLD]] for rank in range(WORLD)]
    check(ds, [one["seen"] for one in found])
    assert found[0]["sums"] == found[1]["sums"]
    assert sum(found[0]["sums"]) == sum(n for one in found for epoch in one["seen"] for n in epoch)
