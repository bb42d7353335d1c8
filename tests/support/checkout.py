"""Make copies of the project as it is in this checkout."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Files that tools leave in a checkout and that are not in git.
_LEFT_BEHIND = (
    *(".*_cache", ".coverage*", ".git", ".hypothesis", ".venv"),
    *("__pycache__", "*.egg-info", "*.so"),
)
_BUILT = ("build", "dist", "_build")


def copy_checkout(directory: Path) -> Path:
    """Copy the project into a new directory, without any file that was built, and return the
    directory."""
    ignored = shutil.ignore_patterns(*_LEFT_BEHIND, *_BUILT)
    shutil.copytree(ROOT, directory, ignore=ignored, symlinks=True)
    for generated in (directory / "src/netmeasure/_fast").glob("*.c"):
        generated.unlink()
    return directory
