"""Packing and loading import no more than they need."""

import subprocess
import sys
import textwrap


def test_packs_do_not_import_pandas(photo_folder, tmp_path):
    """``pyarrow.array`` does, where pandas is installed: seconds for twenty rows."""
    code = """
        import sys
        import numpy as np
        import fastshard as fs

        photos, out = sys.argv[1:]
        row = {"text": "a", "blob": b"c", "x": np.zeros(3, np.float32), "flag": True, "kind": "v"}
        rows = (row | {"n": n, "ids": [1] * n} for n in range(20))
        fs.pack(rows, f"{out}/rows", class_names={"kind": ["u", "v"]}, types={"ids": "list[int64]"})
        fs.pack(photos, f"{out}/photos")
        list(fs.Loader(f"{out}/photos", 8, transforms={"image": fs.Resize((8, 8))}))
        print("pandas" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), photo_folder, tmp_path]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
