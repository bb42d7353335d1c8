"""Builds the native modules; everything else is in pyproject.toml.

Environment switches for developers:
  NETMEASURE_DEBUG=1      compile the nm_assert checks of the C headers in
  NETMEASURE_ANNOTATE=1   write Cython's annotated HTML beside each .pyx
  NETMEASURE_SANITIZE=x   pass -fsanitize=x (address, thread, undefined)
CFLAGS are heeded as usual; an -O in them takes the place of ours.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

FAST = Path("src/netmeasure/_fast")
DEBUG = os.environ.get("NETMEASURE_DEBUG") == "1"
ANNOTATE = os.environ.get("NETMEASURE_ANNOTATE") == "1"
SANITIZE = os.environ.get("NETMEASURE_SANITIZE", "")

compile_args = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-sign-compare"]
link_args = []
macros = []
if DEBUG:
    compile_args += ["-O1", "-g"]
    macros.append(("NETMEASURE_DEBUG", "1"))
elif "-O" not in os.environ.get("CFLAGS", ""):
    compile_args.append("-O3")
if SANITIZE:
    compile_args += [f"-fsanitize={SANITIZE}", *(["-Wno-tsan"] if SANITIZE == "thread" else [])]
    link_args.append(f"-fsanitize={SANITIZE}")

extensions = [
    Extension(
        f"netmeasure._fast.{source.stem}",
        [str(source)],
        depends=[str(path) for path in sorted([*FAST.glob("*.h"), *FAST.glob("*.pxd")])],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=macros,
        libraries=["dl"],  # a part of the C library since glibc 2.34
    )
    for source in sorted(FAST.glob("*.pyx"))
]

# several modules at once: their compilers are processes of their own
options = {"build_ext": {"parallel": len(os.sched_getaffinity(0))}}

setup(
    options=options,
    ext_modules=cythonize(
        extensions,
        annotate=ANNOTATE,
        force=ANNOTATE,  # else nothing is written where the .c files are up to date
        show_all_warnings=False,
        compiler_directives={
            "language_level": "3str",
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
)
