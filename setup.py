"""Compiles the fast layers; everything else about the package is in pyproject.toml.

The extension is optional: without a compiler, without Cython, after any error, the package is installed all the same
and its NumPy code serves. It is built where it is used, so it may use all that this processor can do.
"""

import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

KERNELS = [
    Extension(f"common.layers.fast.{name}", [f"common/layers/fast/{name}.pyx"]) for name in ("_convolution", "_pooling")
]
OPTIMISE, OPENMP, NATIVE = ("/O2", "/openmp", "") if sys.platform == "win32" else ("-O3", "-fopenmp", "-march=native")
TRIALS = [[OPENMP, NATIVE], [NATIVE], [OPENMP], []]  # the first that the compiler knows is taken


class BuildWithWhatWorks(build_ext):
    """Uses OpenMP and the processor's own instructions where it can, and does without the one or both where not."""

    def build_extension(self, extension):
        for flags in TRIALS:
            extension.extra_compile_args = [flag for flag in [OPTIMISE, *flags] if flag]
            extension.extra_link_args = [flag for flag in flags if flag == "-fopenmp"]
            try:
                super().build_extension(extension)
            except (CompileError, LinkError, OSError) as error:  # OSError: there is no compiler
                if not flags:
                    raise CompileError(str(error)) from error  # a warning, since the extension is optional
            else:
                print(f"{extension.name}: compiled with", *extension.extra_compile_args)
                return


def extensions():
    """The kernels translated to C, or nothing where that fails."""
    try:
        from Cython.Build import cythonize

        translated = cythonize(KERNELS)
    except Exception as error:  # whatever it is, it is no reason to stop an installation
        print("fast layers: not compiled, their NumPy code will serve:", error)
        return []
    for extension in translated:
        extension.optional = True  # said here, since cythonize forgets it
    return translated


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildWithWhatWorks})
