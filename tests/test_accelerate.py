"""Accelerate on two processes: every sample once, or an error that says what to write."""

import json

import pytest

import fastshard as fs
from test_ranks import finish, free_ports, start

pytest.importorskip("accelerate")
ROWS = 103

SCRIPT = """
    import json, sys
    import numpy as np
    import torch.distributed as dist
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    import fastshard as fs

    path = sys.argv[1]
    # Older than the process group, as in most programs.
    early = fs.torch.ShardDataset(fs.Loader(path, 8, shuffle=True))
    accelerator = Accelerator(cpu=True)

    def make(**options):
        return fs.torch.ShardDataset(fs.Loader(path, 8, shuffle=True, **options))

    def together(data):
        try:
            mine = [n for batch in data for n in batch["n"].tolist()]
        except ValueError as error:
            mine = str(error)
        everybody = [None] * accelerator.num_processes
        dist.all_gather_object(everybody, mine)
        return everybody

    whole = {"world_size": 1}
    found = {
        "plain": together(early),
        "moved": together(fs.torch.to_device(make(), accelerator.device)),
        "prepared dataset": together(accelerator.prepare(make())),
        "read by process 0": together(accelerator.prepare(DataLoader(make(world_size=1), batch_size=None))),
        "prepared": together(accelerator.prepare(DataLoader(make(), batch_size=None))),
        "length": [len(early)],
    }
    accelerator.dataloader_config.dispatch_batches = False
    found["sharded twice"] = together(accelerator.prepare(DataLoader(make(), batch_size=2)))
    dist.destroy_process_group()
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("accelerate") / "ds"
    fs.pack(({"n": n} for n in range(ROWS)), path)
    return path


def test_every_sample_once_or_an_error(path):
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_ports(1)[0])}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    one, other = map(json.loads, finish(*(start(SCRIPT, path, **common, **rank) for rank in ranks)))
    assert one == other
    for name in ("plain", "moved", "prepared dataset", "read by process 0"):
        seen = [n for rank in one[name] for n in rank]
        assert set(seen) == set(range(ROWS)), name
        assert len(seen) == ROWS + 1, name  # the first sample again on the last rank
    for name in ("prepared", "sharded twice"):
        assert all("leave the DataLoader out of prepare()" in said for said in one[name]), name
    assert one["length"] == [7]
