"""Remove files from an installation that no run needs, and compile the rest.

The root file system of a container is read-only, so Python can't compile later. Usage: slim.py
PREFIX
"""

import compileall
import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

#: Below site-packages: tests and their data, sources of compiled modules, types, build helpers.
DIRECTORIES = ("tests", "test", "testing", "_examples", "f2py", "include", "__pycache__")
KEPT = ("numpy/testing", "numpy/_core/tests/_natype.py")
ENDINGS = (".pyx", ".pxd", ".pxi", ".c", ".cpp", ".h", ".a", ".pyi")


def main(prefix: Path) -> None:
    (packages,) = prefix.glob("lib/python3*/site-packages")
    for path in sorted(packages.rglob("*")):
        if path.is_dir() and path.name in DIRECTORIES:
            if path.relative_to(packages).as_posix() not in KEPT:
                shutil.rmtree(path)
        elif path.suffix in ENDINGS and path.is_file():
            path.unlink()
    # the files never change, so Python does not even have to check their dates
    mode = PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(packages, quiet=1, invalidation_mode=mode):
        raise SystemExit("some module does not compile")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
