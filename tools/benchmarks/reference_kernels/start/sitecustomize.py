"""Python runs this module at its start where its folder is on the path."""

from tools.benchmarks.reference_kernels.hook import install

install()
