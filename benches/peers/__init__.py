"""Every peer, really installed, on the same photographs in one run: `make bench-peers`.

A module a peer turns a `Job` into a `Stream`; `loaders.PEERS` lists them. `install.py` makes their environment from
packages.toml and constraints.txt, `pictures.py` and `formats.py` what they read, `gate.py` compares their pixels with
torchvision's, and `__main__.py` measures them, each in a process of its own.
"""
